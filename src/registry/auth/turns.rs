//! Bounded work: few things at a time, and a bounded number that wait, of which each client has its share.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::AuthError;
use crate::config::Limits;
use crate::registry::shares::{Share, Shares};

/// Logins that wait. More are sent away. Those of one client are a part of them, which is enough for the people behind one
/// address to come all at once.
const WAITING: usize = 2048;

/// Who may work, and who waits to. Clones count together.
#[derive(Clone)]
pub(super) struct Turns {
    waiting: Arc<Semaphore>,
    shares: Shares,
    working: Arc<Semaphore>,
}

/// The right to work.
pub(super) struct Turn {
    _working: OwnedSemaphorePermit,
}

/// The right to wait.
pub(super) struct Place {
    _waiting: OwnedSemaphorePermit,
    _share: Share,
}

impl Turns {
    /// With so many that work at a time.
    pub fn new(limits: &Limits, working: usize) -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(WAITING)),
            shares: Shares::new(limits.share_of(WAITING)),
            working: Arc::new(Semaphore::new(working)),
        }
    }

    /// A place to wait in.
    pub fn place(&self, client: IpAddr) -> Result<Place, AuthError> {
        let share = self.shares.take(client).ok_or(AuthError::Busy)?;
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| AuthError::Busy)?;
        Ok(Place { _waiting: waiting, _share: share })
    }

    /// Waits for a turn.
    pub async fn take(&self, client: IpAddr) -> Result<Turn, AuthError> {
        let _place = self.place(client)?;
        // It is never closed.
        let working = Arc::clone(&self.working).acquire_owned().await.map_err(|_| AuthError::Busy)?;
        Ok(Turn { _working: working })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKING: usize = 2;

    fn turns() -> Turns {
        Turns::new(&Limits::default(), WORKING)
    }

    fn client(number: usize) -> IpAddr {
        IpAddr::V4(u32::try_from(number).unwrap().into())
    }

    /// All that may work.
    async fn workers(turns: &Turns) -> Vec<Turn> {
        let mut taken = Vec::new();
        for _ in 0..WORKING {
            taken.push(turns.take(client(0)).await.ok().unwrap());
        }
        taken
    }

    /// So many that wait, each for the client that it belongs to.
    async fn waiters(turns: &Turns, number: usize, of: impl Fn(usize) -> IpAddr) -> Vec<tokio::task::JoinHandle<bool>> {
        let wait = |place| {
            let (turns, client) = (turns.clone(), of(place));
            tokio::spawn(async move { turns.take(client).await.is_ok() })
        };
        let waiting = (0..number).map(wait).collect();
        while turns.waiting.available_permits() > WAITING - number {
            tokio::task::yield_now().await;
        }
        waiting
    }

    #[tokio::test]
    async fn one_client_leaves_places_to_others() {
        let turns = turns();
        let working = workers(&turns).await;
        let waiting = waiters(&turns, Limits::default().share_of(WAITING), |_| client(1)).await;
        assert!(matches!(turns.take(client(1)).await, Err(AuthError::Busy)));
        assert!(turns.place(client(1)).is_err());
        let other = turns.take(client(2));
        drop(working);
        assert!(other.await.is_ok());
        for task in waiting {
            assert!(task.await.unwrap());
        }
        assert!(turns.take(client(1)).await.is_ok());
    }

    #[tokio::test]
    async fn few_work_and_a_bounded_number_waits() {
        let turns = turns();
        let working = workers(&turns).await;
        let share = Limits::default().share_of(WAITING);
        let waiting = waiters(&turns, WAITING, |place| client(place / share)).await;
        assert!(matches!(turns.take(client(WAITING)).await, Err(AuthError::Busy)));
        drop(working);
        for task in waiting {
            assert!(task.await.unwrap());
        }
    }
}
