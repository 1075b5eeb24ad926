//! Asks the API server about tokens (TokenReview).

use ::kube::api::PostParams;
use ::kube::{Api, Client};
use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};

use crate::registry::auth::{ReviewError, Reviewed, TokenReviewer};

/// The API server of the cluster.
pub struct ClusterReviews {
    api: Api<TokenReview>,
}

impl ClusterReviews {
    pub fn new(client: Client) -> Self {
        Self { api: Api::all(client) }
    }
}

#[async_trait]
impl TokenReviewer for ClusterReviews {
    async fn review(&self, token: &str, audiences: &[String]) -> Result<Option<Reviewed>, ReviewError> {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(audiences.to_vec()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.api.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| ReviewError(Box::new(error)))?;
        Ok(answer.status.and_then(reviewed))
    }
}

/// An error in the status is the API server's way to say what is wrong with the token.
fn reviewed(status: TokenReviewStatus) -> Option<Reviewed> {
    let TokenReviewStatus { authenticated, audiences, user, error } = status;
    let user = user.filter(|_| authenticated == Some(true) && error.is_none_or(|error| error.is_empty()))?;
    Some(Reviewed {
        username: user.username?,
        groups: user.groups.unwrap_or_default(),
        audiences: audiences.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn read(status: Value) -> Option<Reviewed> {
        reviewed(serde_json::from_value(status).unwrap())
    }

    #[test]
    fn what_the_api_server_says_about_a_good_token_is_read() {
        let user = json!({"username": "system:serviceaccount:team:ci", "uid": "u", "groups": ["a"]});
        let reviewed = read(json!({"authenticated": true, "audiences": ["r"], "user": user}));
        let username = "system:serviceaccount:team:ci".to_owned();
        let expected = Reviewed { username, groups: vec!["a".to_owned()], audiences: vec!["r".to_owned()] };
        assert_eq!(reviewed, Some(expected));
    }

    #[rstest]
    #[case::not_authenticated(json!({"authenticated": false, "user": {"username": "x"}}))]
    #[case::nothing_said(json!({"user": {"username": "x"}}))]
    #[case::an_error(json!({"authenticated": true, "error": "expired", "user": {"username": "x"}}))]
    #[case::nobody(json!({"authenticated": true, "user": {}}))]
    fn anything_else_is_nobody(#[case] status: Value) {
        assert_eq!(read(status), None);
    }
}
