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

/// Bytes that the kernel takes although they can't be sent yet. By itself it takes several megabytes and then nothing for
/// as long as a slow client needs for a large part of them: that client would look as if it took nothing. With much less
/// than this a fast client costs a third more.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 2 * 1024 * 1024;

impl Guarded {
    pub fn new(stream: TcpStream, limits: &Limits) -> Self {
        #[cfg(target_os = "linux")]
        if let Err(error) = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT) {
            tracing::debug!(%error, "TCP_NOTSENT_LOWAT can't be set");
        }
        let pace = Pace::new(limits.minimum_response_bytes_per_second, limits.idle());
        Self { stream, idle: limits.idle(), waiting_since: None, timer: None, pace }
    }

    fn written(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Ok(length)) => {
                let bytes = length as u64;
                match self.waiting_since.take() {
                    None => self.pace.at_once(bytes),
                    Some(since) if self.pace.is_too_slow(since.elapsed(), bytes) => return Poll::Ready(self.give_up()),
                    Some(_) => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::task::noop_waker;
    use tokio::net::TcpListener;

    /// What becomes of writes that have waited, each followed by one that has not.
    async fn writes(waited_for: usize, at_once: usize) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let limits = Limits { idle_seconds: 10, minimum_response_bytes_per_second: 1000, ..Limits::default() };
        let mut guarded = Guarded::new(stream, &limits);
        let waker = noop_waker();
        let write = |guarded: &mut Guarded, length| {
            let polled = guarded.written(&mut Context::from_waker(&waker), Poll::Ready(Ok(length)));
            let Poll::Ready(written) = polled else { panic!("it was ready") };
            written.map(drop)
        };
        for _ in 0..20 {
            guarded.waiting_since = Some(Instant::now() - Duration::from_secs(1));
            write(&mut guarded, waited_for)?;
            write(&mut guarded, at_once)?;
        }
        Ok(())
    }

    #[tokio::test]
    async fn pace_counts_all_that_is_written_not_only_what_waited() {
        writes(1, 1200).await.unwrap();
        writes(1100, 0).await.unwrap();
        assert_eq!(writes(1, 900).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
