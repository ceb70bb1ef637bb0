//! Objects that wait to be looked at: each once, never twice at a time, what has changed before what is only looked at again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::object::Key;

/// How urgent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Somebody waits for it.
    Changed,
    /// It is looked at to be sure.
    Resync,
}

/// What comes after an object was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Nothing, until something changes.
    No,
    /// The same after a while.
    After(Duration),
    /// The same after a pause that grows with each failure.
    Failed,
}

/// The first pause after a failure; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due: Instant,
    key: Key,
}

#[derive(Debug, Default)]
struct State {
    /// Ordered by when they are due, for each lane.
    lanes: [BTreeSet<Waiting>; 2],
    waiting: HashMap<Key, (Lane, Instant)>,
    /// What is looked at, and whether it has to be again.
    running: HashMap<Key, Option<(Lane, Instant)>>,
    failures: HashMap<Key, u32>,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

impl Queue {
    /// Adds an object; one that waits already comes at the earlier of both times.
    pub fn add(&self, key: Key, lane: Lane) {
        self.add_after(key, lane, Duration::ZERO);
    }

    /// Adds an object that is not looked at before some time has passed.
    pub fn add_after(&self, key: Key, lane: Lane, pause: Duration) {
        self.lock().add(key, lane, Instant::now() + pause);
        self.changed.notify_one();
    }

    /// Waits for an object that is due; its holder says [`Queue::done`].
    pub async fn next(&self) -> Key {
        loop {
            let changed = self.changed.notified();
            let due = match self.lock().take(Instant::now()) {
                Ok(key) => {
                    // Another worker may wait for the rest.
                    self.changed.notify_one();
                    return key;
                }
                Err(due) => due,
            };
            match due {
                Some(due) => {
                    let _ = tokio::time::timeout_at(due, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// Says that an object was looked at.
    pub fn done(&self, key: Key, again: Again) {
        self.lock().done(key, again, Instant::now());
        self.changed.notify_one();
    }

    /// How many wait or are looked at.
    pub fn depth(&self) -> usize {
        let state = self.lock();
        state.waiting.len() + state.running.len()
    }

    // Each change leaves the collections in step.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, key: Key, lane: Lane, due: Instant) {
        if let Some(again) = self.running.get_mut(&key) {
            *again = Some(earlier(*again, (lane, due)));
            return;
        }
        let before = self.waiting.get(&key).copied();
        let (lane, due) = earlier(before, (lane, due));
        if let Some((lane, due)) = before {
            let waiting = Waiting {
                due,
                key: key.clone(),
            };
            self.lanes[lane as usize].remove(&waiting);
        }
        self.waiting.insert(key.clone(), (lane, due));
        self.lanes[lane as usize].insert(Waiting { due, key });
    }

    /// Takes what is due, or says when something will be.
    fn take(&mut self, now: Instant) -> Result<Key, Option<Instant>> {
        let mut next = None;
        for lane in &mut self.lanes {
            match lane.first() {
                Some(first) if first.due <= now => {
                    let Some(Waiting { key, .. }) = lane.pop_first() else {
                        continue;
                    };
                    self.waiting.remove(&key);
                    self.running.insert(key.clone(), None);
                    return Ok(key);
                }
                Some(first) => {
                    next = Some(next.map_or(first.due, |next: Instant| next.min(first.due)))
                }
                None => {}
            }
        }
        Err(next)
    }

    fn done(&mut self, key: Key, again: Again, now: Instant) {
        let changed = self.running.remove(&key).flatten();
        if again != Again::Failed {
            self.failures.remove(&key);
        }
        match again {
            Again::No => {}
            Again::After(pause) => self.add(key.clone(), Lane::Resync, now + pause),
            Again::Failed => {
                let failures = self.failures.entry(key.clone()).or_default();
                let pause = PAUSE_MIN.saturating_mul(1 << (*failures).min(8));
                *failures += 1;
                self.add(key.clone(), Lane::Changed, now + pause.min(PAUSE_MAX));
            }
        }
        if let Some((lane, due)) = changed {
            self.add(key, lane, due);
        }
    }
}

fn earlier(before: Option<(Lane, Instant)>, now: (Lane, Instant)) -> (Lane, Instant) {
    match before {
        Some((lane, due)) => (lane.min(now.0), due.min(now.1)),
        None => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Kind;

    fn key(name: &str) -> Key {
        Key::new(Kind::ManagedSecret, "ns", name)
    }

    async fn now(queue: &Queue) -> Option<String> {
        let next = tokio::time::timeout(Duration::from_millis(1), queue.next());
        next.await.ok().map(|key| key.name().to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn object_that_was_added_twice_comes_once() {
        let queue = Queue::default();
        queue.add_after(key("a"), Lane::Resync, Duration::from_secs(60));
        queue.add(key("a"), Lane::Changed);
        assert_eq!(now(&queue).await.as_deref(), Some("a"));
        queue.done(key("a"), Again::No);
        tokio::time::advance(Duration::from_secs(120)).await;
        assert_eq!(now(&queue).await, None);
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn object_that_changes_while_it_is_looked_at_comes_again_afterwards() {
        let queue = Queue::default();
        queue.add(key("a"), Lane::Changed);
        let held = queue.next().await;
        queue.add(key("a"), Lane::Changed);
        assert_eq!(now(&queue).await, None);
        queue.done(held, Again::No);
        assert_eq!(now(&queue).await.as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_changed_comes_before_what_is_looked_at_again() {
        let queue = Queue::default();
        for name in ["a", "b", "c"] {
            queue.add(key(name), Lane::Resync);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        queue.add(key("new"), Lane::Changed);
        queue.add(key("c"), Lane::Changed);
        let mut order = Vec::new();
        while let Some(name) = now(&queue).await {
            order.push(name);
        }
        assert_eq!(order, ["c", "new", "a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_with_failures_and_end_with_a_success() {
        let queue = Queue::default();
        queue.add(key("a"), Lane::Changed);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let began = Instant::now();
            let held = queue.next().await;
            pauses.push(began.elapsed().as_millis());
            queue.done(held, Again::Failed);
        }
        assert_eq!(pauses, [0, 500, 1000, 2000, 4000, 8000, 16_000, 30_000]);
        let held = queue.next().await;
        queue.done(held.clone(), Again::No);
        queue.add(held, Lane::Changed);
        let held = queue.next().await;
        queue.done(held, Again::Failed);
        let began = Instant::now();
        queue.next().await;
        assert_eq!(began.elapsed(), PAUSE_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_does_not_wait_for_the_pause_after_a_failure() {
        let queue = Queue::default();
        queue.add(key("a"), Lane::Changed);
        for _ in 0..8 {
            let held = queue.next().await;
            queue.done(held, Again::Failed);
        }
        queue.add(key("a"), Lane::Changed);
        assert_eq!(now(&queue).await.as_deref(), Some("a"));
    }
}
