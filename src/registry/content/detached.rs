//! Work that is done to its end even if the caller goes away.
//!
//! As long as he waits it is done in his task: going to another one, and back for each piece of a body, costs more than
//! most of the work. Only what he leaves behind becomes a task of its own.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;

pub(super) struct Detached<T: Send + 'static> {
    /// Nothing while it is polled, so that work that has panicked is not gone on with.
    work: Option<BoxFuture<'static, T>>,
}

impl<T: Send + 'static> Detached<T> {
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(work.boxed()) }
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Nobody polls a future again that was ready, or has panicked.
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        let polled = work.poll_unpin(context);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::AssertUnwindSafe;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn is_done_though_the_caller_goes_away() {
        let ((go_on, may_go_on), (done, is_done)) = (oneshot::channel::<()>(), oneshot::channel());
        let mut work = Detached::new(async move {
            may_go_on.await.unwrap();
            done.send(7).unwrap();
        });
        assert!(futures::poll!(&mut work).is_pending());
        drop(work);
        go_on.send(()).unwrap();
        assert_eq!(is_done.await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_is_the_callers() {
        let (held, is_dropped) = oneshot::channel::<()>();
        let work = Detached::new(async move {
            let _held = held;
            panic!("expected by a test");
        });
        assert!(AssertUnwindSafe(work).catch_unwind().await.is_err());
        assert!(is_dropped.await.is_err());
    }
}
