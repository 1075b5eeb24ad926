//! A client's socket on which writing has an end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::activity::Activity;

/// A socket whose writes fail once the client has taken nothing for too long.
///
/// It costs a look at the clock for each write that has to wait, and nothing for the others: the timer is set again
/// only when it goes off. What the kernel still holds is thrown away, so that a dead client keeps no memory of it.
pub struct Guarded {
    stream: TcpStream,
    idle: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    activity: Arc<Activity>,
}

impl Guarded {
    pub fn new(stream: TcpStream, idle: Duration, activity: Arc<Activity>) -> Self {
        Self { stream, idle, waiting_since: None, timer: None, activity }
    }

    fn written(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(written) => {
                self.waiting_since = None;
                if let Ok(length) = written {
                    self.activity.wrote(length);
                }
                Poll::Ready(written)
            }
            Poll::Pending => self.poll_stalled(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }

    fn poll_stalled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.waiting_since.get_or_insert_with(Instant::now) + self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                // Without it the kernel goes on offering the rest for a quarter of an hour.
                if let Err(error) = self.stream.set_zero_linger() {
                    tracing::debug!(%error, "connection can't be reset");
                }
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.written(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.written(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
