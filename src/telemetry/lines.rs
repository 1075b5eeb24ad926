//! The queue between who logs and who writes: a request never waits for whoever reads the log.
//!
//! # Guarantees
//! - Lines are written whole, in the order in which they came.
//! - When lines come faster than they are read, the least important ones are dropped and counted, and then those that
//!   strangers can cause; all others wait for room. Memory is bounded either way.
//! - [`LineQueue::flush`] returns when what came before it has been written, or when its time is over.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

/// Bytes that may wait to be written before the first lines are dropped, and before no more are taken but those that wait
/// for it.
const DROPPING: usize = 1024 * 1024;
const WAITING: usize = 2 * 1024 * 1024;
/// Capacity that is kept for the next batch.
const KEPT_CAPACITY: usize = 128 * 1024;
/// For how long unimportant lines gather, so that many are one write.
const GATHER: Duration = Duration::from_millis(10);

/// What becomes of a line when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Importance {
    /// It is dropped and counted.
    Droppable,
    /// The same, but not to make room for the former: the record of somebody without a valid credential.
    Unverified,
    /// It waits for room.
    Kept,
}

/// How many lines there was no room for.
#[derive(Clone, Default)]
pub(super) struct Dropped {
    pub droppable: Counter,
    pub unverified: Counter,
}

/// Lines on their way to a background thread. Clones are the same queue.
#[derive(Clone)]
pub(super) struct LineQueue {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Tells the writer that there is something to do.
    filled: Condvar,
    /// Tells those who wait that the writer has written.
    written: Condvar,
    dropped: Dropped,
}

#[derive(Default)]
struct State {
    pending: Vec<u8>,
    /// There is a line that shall not wait for more.
    urgent: bool,
    writing: bool,
}

impl LineQueue {
    /// Starts the thread that writes. It runs until the process ends.
    pub fn start(output: impl Write + Send + 'static, dropped: Dropped) -> std::io::Result<Self> {
        let (state, filled, written) = Default::default();
        let shared = Arc::new(Shared { state, filled, written, dropped });
        let writer = Arc::clone(&shared);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_all(output))?;
        Ok(Self { shared })
    }

    /// Takes a line, its end included.
    pub fn push(&self, line: &[u8], importance: Importance) {
        let mut state = self.shared.lock();
        match importance {
            Importance::Droppable if state.pending.len() + line.len() > DROPPING => {
                self.shared.dropped.droppable.inc();
                return;
            }
            Importance::Unverified if state.pending.len() + line.len() > WAITING => {
                self.shared.dropped.unverified.inc();
                return;
            }
            Importance::Droppable | Importance::Unverified => {}
            Importance::Kept => {
                while state.pending.len() > WAITING {
                    state = self.shared.written.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        let first = state.pending.is_empty();
        let urgent = importance != Importance::Droppable && !state.urgent;
        state.urgent |= urgent;
        state.pending.extend_from_slice(line);
        drop(state);
        if first || urgent {
            self.shared.filled.notify_one();
        }
    }

    /// Waits until what is in the queue has been written, at most so long. Whether it has.
    pub fn flush(&self, longest: Duration) -> bool {
        let mut state = self.shared.lock();
        state.urgent = true;
        self.shared.filled.notify_one();
        let unwritten = |state: &mut State| state.writing || !state.pending.is_empty();
        let waited = self.shared.written.wait_timeout_while(state, longest, unwritten);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Shared {
    /// No code that could panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, mut output: impl Write) {
        let mut batch = Vec::new();
        loop {
            self.next_batch(&mut batch);
            // Nobody is left to be told of a log that can't be written.
            let _ = output.write_all(&batch).and_then(|()| output.flush());
            batch.clear();
            batch.shrink_to(KEPT_CAPACITY);
            self.lock().writing = false;
            self.written.notify_all();
        }
    }

    fn next_batch(&self, batch: &mut Vec<u8>) {
        let empty = |state: &mut State| state.pending.is_empty();
        let state = self.filled.wait_while(self.lock(), empty).unwrap_or_else(PoisonError::into_inner);
        let gathered = self.filled.wait_timeout_while(state, GATHER, |state| !state.urgent);
        let mut state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        std::mem::swap(&mut state.pending, batch);
        state.urgent = false;
        state.writing = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(60);

    /// Hands over what it is asked to write, piece by piece, to whoever takes it.
    struct Rendezvous(mpsc::SyncSender<Vec<u8>>);

    impl Write for Rendezvous {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// A queue whose writer hangs until the receiver is asked, and has one line in hand.
    fn stuck() -> (LineQueue, mpsc::Receiver<Vec<u8>>) {
        let (sender, receiver) = mpsc::sync_channel(0);
        let queue = LineQueue::start(Rendezvous(sender), Dropped::default()).unwrap();
        queue.push(b"first\n", Importance::Kept);
        while !queue.shared.lock().writing {
            std::thread::yield_now();
        }
        (queue, receiver)
    }

    #[test]
    fn lines_are_written_whole_and_in_order() {
        let (queue, receiver) = stuck();
        queue.push(b"second\n", Importance::Droppable);
        queue.push(b"third\n", Importance::Kept);
        assert_eq!(receiver.recv().unwrap(), b"first\n");
        assert_eq!(receiver.recv().unwrap(), b"second\nthird\n");
    }

    #[test]
    fn a_full_queue_drops_and_counts_what_may_be_dropped() {
        let (queue, receiver) = stuck();
        let line = vec![b'x'; DROPPING / 4];
        for _ in 0..6 {
            queue.push(&line, Importance::Droppable);
        }
        queue.push(b"kept\n", Importance::Kept);
        assert_eq!(queue.shared.dropped.droppable.get(), 2);
        receiver.recv().unwrap();
        let second = receiver.recv().unwrap();
        assert_eq!(second.len(), DROPPING + 5);
        assert!(second.ends_with(b"kept\n"));
    }

    #[test]
    fn no_stranger_makes_the_others_wait() {
        let (queue, receiver) = stuck();
        let line = vec![b'x'; DROPPING / 4];
        for _ in 0..10 {
            queue.push(&line, Importance::Unverified);
        }
        queue.push(b"access\n", Importance::Droppable);
        queue.push(b"kept\n", Importance::Kept);
        let dropped = &queue.shared.dropped;
        assert_eq!((dropped.unverified.get(), dropped.droppable.get()), (2, 1));
        receiver.recv().unwrap();
        let second = receiver.recv().unwrap();
        assert_eq!(second.len(), WAITING + 5);
        assert!(second.ends_with(b"kept\n"));
    }

    #[test]
    fn what_may_not_be_dropped_waits_for_room() {
        let (queue, receiver) = stuck();
        queue.push(&vec![b'x'; WAITING + 1], Importance::Kept);
        let (sender, pushed) = mpsc::channel();
        let waiting = queue.clone();
        std::thread::spawn(move || {
            waiting.push(b"patient\n", Importance::Kept);
            sender.send(()).unwrap();
        });
        assert_eq!(pushed.recv_timeout(Duration::from_millis(50)), Err(mpsc::RecvTimeoutError::Timeout));
        let mut written = Vec::new();
        while !written.ends_with(b"patient\n") {
            written.extend(receiver.recv_timeout(LONG).unwrap());
        }
        pushed.recv_timeout(LONG).unwrap();
        assert_eq!(queue.shared.dropped.droppable.get(), 0);
    }

    #[test]
    fn a_flush_waits_for_the_writer_but_not_without_end() {
        let (queue, receiver) = stuck();
        assert!(!queue.flush(Duration::from_millis(1)));
        let reader = std::thread::spawn(move || receiver.iter().flatten().collect::<Vec<u8>>());
        queue.push(b"second\n", Importance::Droppable);
        assert!(queue.flush(LONG));
        assert!(queue.shared.lock().pending.is_empty());
        drop(reader);
    }
}
