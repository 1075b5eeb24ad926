//! Bounded work: few things at a time, and a bounded number that wait, of which each client has its share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::AuthError;
use crate::config::Limits;
use crate::registry::shares::{Share, Shares, client_address};

/// Logins that wait. More are sent away. Those of one client are a part of them, which is enough for the people behind one
/// address to come all at once.
const WAITING: usize = 2048;

/// Who may work, and who waits to. Clones count together.
#[derive(Clone)]
pub(super) struct Turns {
    waiting: Arc<Semaphore>,
    shares: Shares,
    working: Arc<Semaphore>,
    lanes: Lanes,
}

/// The right to work.
pub(super) struct Turn {
    _working: OwnedSemaphorePermit,
    _lane: Lane,
}

/// How many of a client's may work at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Company {
    /// As many as any client's may.
    Share,
    /// One: whoever has earned no more.
    Alone,
}

/// The right to wait.
pub(super) struct Place {
    _waiting: OwnedSemaphorePermit,
    _share: Share,
}

impl Turns {
    /// With so many that work at a time, all of which may be one client's.
    pub fn new(limits: &Limits, working: usize) -> Self {
        Self::shared(limits, working, working)
    }

    /// With so many that work at a time, of which so many may be one client's.
    pub fn shared(limits: &Limits, working: usize, each: usize) -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(WAITING)),
            shares: Shares::new(limits.share_of(WAITING)),
            working: Arc::new(Semaphore::new(working)),
            lanes: Lanes { width: u32::try_from(each).unwrap_or(u32::MAX), lanes: Arc::default() },
        }
    }

    /// A place to wait in.
    pub fn place(&self, client: IpAddr) -> Result<Place, AuthError> {
        let share = self.shares.take(client).ok_or(AuthError::Busy)?;
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| AuthError::Busy)?;
        Ok(Place { _waiting: waiting, _share: share })
    }

    /// Waits for a turn.
    pub async fn take(&self, client: IpAddr, company: Company) -> Result<Turn, AuthError> {
        let _place = self.place(client)?;
        // First among the client's own, so that no more of them stand in the way of others than may work.
        let lane = self.lanes.enter(client, company).await?;
        // It is never closed.
        let working = Arc::clone(&self.working).acquire_owned().await.map_err(|_| AuthError::Busy)?;
        Ok(Turn { _working: working, _lane: lane })
    }
}

/// A lane for each client that works or waits.
#[derive(Clone)]
struct Lanes {
    /// How many may be in one.
    width: u32,
    lanes: LaneMap,
}

/// With how many there are that hold or wait for a part of it: without any a lane is forgotten.
type LaneMap = Arc<Mutex<HashMap<u128, (Arc<Semaphore>, usize)>>>;

/// A part of a lane, or the wait for one.
struct Lane {
    lanes: LaneMap,
    client: u128,
    permit: Option<OwnedSemaphorePermit>,
}

impl Lanes {
    async fn enter(&self, client: IpAddr, company: Company) -> Result<Lane, AuthError> {
        let client = client_address(client);
        let semaphore = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || (Arc::new(Semaphore::new(self.width as usize)), 0);
            let (semaphore, count) = lanes.entry(client).or_insert_with(new);
            *count += 1;
            Arc::clone(semaphore)
        };
        let mut lane = Lane { lanes: Arc::clone(&self.lanes), client, permit: None };
        let taken = match company {
            Company::Share => 1,
            Company::Alone => self.width,
        };
        // It is never closed.
        lane.permit = Some(semaphore.acquire_many_owned(taken).await.map_err(|_| AuthError::Busy)?);
        Ok(lane)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, count)) = lanes.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                lanes.remove(&self.client);
            }
        }
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
            taken.push(turns.take(client(0), Company::Share).await.ok().unwrap());
        }
        taken
    }

    /// So many that wait, each for the client that it belongs to.
    async fn waiters(turns: &Turns, number: usize, of: impl Fn(usize) -> IpAddr) -> Vec<tokio::task::JoinHandle<bool>> {
        let wait = |place| {
            let (turns, client) = (turns.clone(), of(place));
            tokio::spawn(async move { turns.take(client, Company::Share).await.is_ok() })
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
        assert!(matches!(turns.take(client(1), Company::Share).await, Err(AuthError::Busy)));
        assert!(turns.place(client(1)).is_err());
        let other = turns.take(client(2), Company::Share);
        drop(working);
        assert!(other.await.is_ok());
        for task in waiting {
            assert!(task.await.unwrap());
        }
        assert!(turns.take(client(1), Company::Share).await.is_ok());
    }

    #[tokio::test]
    async fn few_work_and_a_bounded_number_waits() {
        let turns = turns();
        let working = workers(&turns).await;
        let share = Limits::default().share_of(WAITING);
        let waiting = waiters(&turns, WAITING, |place| client(place / share)).await;
        assert!(matches!(turns.take(client(WAITING), Company::Share).await, Err(AuthError::Busy)));
        drop(working);
        for task in waiting {
            assert!(task.await.unwrap());
        }
    }

    #[tokio::test]
    async fn one_client_works_no_more_than_its_share() {
        let turns = Turns::shared(&Limits::default(), 3, 2);
        let take = |number, company| Box::pin(turns.take(client(number), company));
        let first = [take(1, Company::Share).await.ok().unwrap(), take(1, Company::Share).await.ok().unwrap()];
        let mut third = take(1, Company::Share);
        assert!(futures::poll!(&mut third).is_pending());
        let other = take(2, Company::Alone).await.ok().unwrap();
        assert!(futures::poll!(&mut third).is_pending());
        drop(first);
        assert!(third.await.is_ok());
        let mut second = take(2, Company::Alone);
        assert!(futures::poll!(&mut second).is_pending(), "there is room, but not for two of its");
        drop(other);
        drop(second);
        assert!(turns.lanes.lanes.lock().unwrap().is_empty(), "who has nothing is not remembered");
    }
}
