//! I11: on the true ledger granted = left + sold, whatever is called in whatever order.

use std::collections::HashMap;

use booking::{Booking, Digest, Epoch};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::world::{P, World, booking, grant, is_held, session, slot};
use crate::{Step, keys};

#[derive(Clone, Debug)]
enum Action {
    Hold { patient: i64, ordinal: u8 },
    Apply { ordinal: u8, granted: u32 },
    ApplyStale { granted: u32 },
    Settle { nth: usize, live: bool },
    Reopen,
    Freeze,
    LoseLedger,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (1..6i64, 0..2u8).prop_map(|(patient, ordinal)| Action::Hold { patient, ordinal }),
        4 => (0..2u8, 0..6u32).prop_map(|(ordinal, granted)| Action::Apply { ordinal, granted }),
        1 => (0..9u32).prop_map(|granted| Action::ApplyStale { granted }),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(nth, live)| Action::Settle { nth, live }),
        2 => Just(Action::Reopen),
        1 => Just(Action::Freeze),
        1 => Just(Action::LoseLedger),
    ]
}

/// What must be true of the world, kept beside it.
#[derive(Default)]
struct Expected {
    epoch: Opening,
    granted: HashMap<u8, u32>,
    sold: HashMap<u8, u32>,
    bookings: Vec<Booking>,
}

/// The epoch's number; its nonce is the same number as text.
#[derive(Clone, Copy, Default)]
struct Opening(i64);

impl Opening {
    fn epoch(self) -> Epoch {
        Epoch(self.0)
    }

    fn nonce(self) -> String {
        self.0.to_string()
    }
}

impl Expected {
    async fn act(&mut self, world: &mut World, action: Action) {
        let nonce = self.epoch.nonce();
        match action {
            Action::Hold { patient, ordinal } => self.hold(world, patient, ordinal).await,
            Action::Apply { ordinal, granted } => {
                let grants = [grant(ordinal, granted)];
                let step = world.apply(self.epoch.epoch(), &nonce, &grants).await;
                if step == Step::Done(()) {
                    let known = self.granted.entry(ordinal).or_default();
                    *known = granted.max(*known);
                }
            }
            Action::ApplyStale { granted } => {
                let before = Opening(self.epoch.0 - 1);
                let grants = [grant(0, granted)];
                let step = world.apply(before.epoch(), &before.nonce(), &grants).await;
                assert_eq!(step, Step::Refused);
            }
            Action::Settle { nth, live } => {
                if let Some(booking) = self.bookings.get(nth % self.bookings.len().max(1)) {
                    world.settle(booking, live).await;
                }
            }
            Action::Reopen => self.reopen(world).await,
            Action::Freeze => {
                let _ = world.freeze(self.epoch.epoch(), &nonce).await;
            }
            Action::LoseLedger => world.run(&format!("DEL {}", keys::ledger(P))).await,
        }
    }

    async fn hold(&mut self, world: &World, patient: i64, ordinal: u8) {
        let number = i64::try_from(self.bookings.len()).expect("few bookings") + 1;
        let mut wish = booking(number, patient);
        wish.epoch = self.epoch.epoch();
        wish.slot = slot(ordinal);
        wish.key = Digest::of_key(&format!("{number} of {}", self.epoch.0));
        if is_held(&world.hold(&wish).await) {
            *self.sold.entry(ordinal).or_default() += 1;
            self.bookings.push(wish);
        }
    }

    async fn reopen(&mut self, world: &World) {
        let next = Opening(self.epoch.0 + 1);
        let term = world.prepare(&next.nonce(), self.epoch.epoch(), true).await;
        let term = term.expect("a sealed epoch is always replaced");
        assert_eq!(world.open_as(next.epoch(), &term, &next.nonce()).await, Step::Done(()));
        self.epoch = next;
        self.granted.clear();
        self.sold.clear();
    }

    async fn check(&self, world: &World) {
        let inspection = world.inventory.inspect(P).await.expect("answers");
        let Some(ledger) = inspection.ledger else {
            return;
        };
        assert_eq!(ledger.held - ledger.settled, inspection.outbox_len);
        for count in world.inventory.snapshot(P, &[session()]).await.expect("answers") {
            let ordinal = count.slot.ordinal();
            assert_eq!(count.granted, count.left + count.sold, "{count:?}");
            assert_eq!(count.granted, self.granted.get(&ordinal).copied().unwrap_or(0));
            assert_eq!(count.sold, self.sold.get(&ordinal).copied().unwrap_or(0));
        }
    }
}

#[test]
fn granted_is_left_plus_sold_after_any_calls() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let world = runtime.block_on(World::open());
    let world = tokio::sync::Mutex::new(world);
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&prop::collection::vec(action(), 1..40), |actions| {
        runtime.block_on(async {
            let mut world = world.lock().await;
            world.run("FLUSHALL").await;
            let window = super::world::WINDOW;
            world.inventory.set_window(P, super::world::release(), window).await.expect("answers");
            let mut expected = Expected::default();
            for action in [Action::Reopen].into_iter().chain(actions) {
                expected.act(&mut world, action).await;
                expected.check(&world).await;
            }
        });
        Ok(())
    });
    outcome.expect("conserved");
}
