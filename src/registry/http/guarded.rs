//! A client's socket on which writing has an end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::pace::Pace;
use crate::config::Limits;

/// A socket whose writes fail once the client has taken nothing for too long, or too little.
///
/// It costs a look at the clock for each write that has to wait, and nothing for the others: the timer is set again
/// only when it goes off. What the kernel still holds is thrown away, so that a dead client keeps no memory of it.
pub struct Guarded {
    stream: TcpStream,
    idle: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    pace: Pace,
}

impl Guarded {
    pub fn new(stream: TcpStream, limits: &Limits) -> Self {
        let pace = Pace::new(limits.minimum_response_bytes_per_second, limits.idle());
        Self { stream, idle: limits.idle(), waiting_since: None, timer: None, pace }
    }

    fn written(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Ok(length)) => {
                if let Some(since) = self.waiting_since.take()
                    && self.pace.is_too_slow(since.elapsed(), length as u64)
                {
                    return Poll::Ready(self.give_up());
                }
                Poll::Ready(Ok(length))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_stalled(context).map(|()| self.give_up()),
        }
    }

    fn give_up(&self) -> io::Result<usize> {
        // Without it the kernel goes on offering the rest for a quarter of an hour.
        if let Err(error) = self.stream.set_zero_linger() {
            tracing::debug!(%error, "connection can't be reset");
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn poll_stalled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.waiting_since.get_or_insert_with(Instant::now) + self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
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
