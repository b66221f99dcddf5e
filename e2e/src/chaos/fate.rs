//! What was forgotten in a round: by Redis, whose data went, and by gateways that were restarted.

use booking::{Clock as _, SystemClock, UnixMs};
use rush::history::{Forgetful, Forgot};

use super::cluster::PROGRAMS;
use super::fault::{Kind, Strike};

/// What was forgotten in a round.
#[derive(Clone, Debug, Default)]
pub(super) struct Fate {
    /// When Redis had forgotten for the last time.
    pub(super) lost_until: Option<UnixMs>,
    /// Redis was started again or replaced, so a new epoch was opened.
    pub(super) is_renewed: bool,
    /// When Redis or a gateway forgot.
    pub(super) forgot: Vec<Forgot>,
}

impl Fate {
    /// Notes that a fault, begun at `from`, has just struck.
    pub(super) fn note_struck(&mut self, strike: &Strike, from: UnixMs) {
        let until = SystemClock.now();
        self.is_renewed |= strike.kind.renews_redis();
        if strike.kind.empties_redis() {
            self.lost_until = Some(until);
            self.forgot.push(Forgot { what: Forgetful::Redis, from, until });
        }
        if strike.kind == Kind::GatewayKill {
            let number = u8::try_from(strike.which % PROGRAMS);
            self.forgot.extend(number.map(|number| Forgot {
                what: Forgetful::Gateway(number),
                from,
                until,
            }));
        }
    }

    /// Notes that a fault has just been undone, begun at `from`.
    pub(super) fn note_healed(&mut self, strike: &Strike, from: UnixMs) {
        if strike.kind.empties_redis_at_its_end() {
            let until = SystemClock.now();
            self.lost_until = Some(until);
            self.forgot.push(Forgot { what: Forgetful::Redis, from, until });
        }
    }
}
