//! When each patient arrives and how they behave: drawn once, before anything is sent.

use std::net::Ipv4Addr;

use clap::Args;
use rand::Rng;
use rand::seq::SliceRandom;

/// How the crowd behaves. Shares are per cent of the patients.
#[derive(Clone, Copy, Debug, Args)]
pub struct Manners {
    /// Patients who come before the release opens, % [they are told to wait]
    #[arg(long, default_value_t = 8)]
    pub early_percent: u8,
    /// Patients who come in the first second, %
    #[arg(long, default_value_t = 62)]
    pub first_second_percent: u8,
    /// How long the remaining patients keep coming after the first second, ms
    #[arg(long, default_value_t = 3_000)]
    pub tail_ms: u32,
    /// Patients who click twice at once, with one idempotency key, %
    #[arg(long, default_value_t = 20)]
    pub double_click_percent: u8,
    /// Patients who send the same request again after the answer, %
    #[arg(long, default_value_t = 10)]
    pub same_key_percent: u8,
    /// Patients who ask again under a new key after the answer, %
    #[arg(long, default_value_t = 5)]
    pub new_key_percent: u8,
    /// Patients who ask for another slot of the same session, refused or not, %
    #[arg(long, default_value_t = 10)]
    pub other_slot_percent: u8,
    /// Patients who try every slot before they give up, % [never fewer than twice the places]
    #[arg(long, default_value_t = 10)]
    pub determined_percent: u8,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            early_percent: 8,
            first_second_percent: 62,
            tail_ms: 3_000,
            double_click_percent: 20,
            same_key_percent: 10,
            new_key_percent: 5,
            other_slot_percent: 10,
            determined_percent: 10,
        }
    }
}

/// One patient's visit, decided beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent habits, each drawn on its own")]
pub struct Visit {
    /// When the patient arrives, relative to the opening, ms.
    pub arrives_ms: i64,
    /// Index of the slot asked for first.
    pub first_slot: usize,
    /// Clicks twice at once.
    pub double_clicks: bool,
    /// Sends the same request again after the answer.
    pub repeats: bool,
    /// Asks again under a new key after the answer.
    pub renews_key: bool,
    /// Asks for another slot of the same session.
    pub tries_neighbour: bool,
    /// Tries every slot before giving up.
    pub is_determined: bool,
    /// The address the patient's request seems to come from.
    pub address: Ipv4Addr,
}

/// Draws the visits of `patients` to `slots` slots with `places` places in all.
///
/// At least `2 * places` patients are determined, so that at rest no place may be left over while
/// somebody wanted it: that is what makes "booked = min(places, patients)" a fair thing to check.
pub fn draw(
    patients: u32,
    places: u32,
    slots: usize,
    manners: Manners,
    rng: &mut impl Rng,
) -> Vec<Visit> {
    let wanted = u64::from(patients) * u64::from(manners.determined_percent) / 100;
    let determined = wanted.max(2 * u64::from(places)).min(u64::from(patients));
    let mut visits: Vec<Visit> = (0..patients)
        .map(|index| Visit {
            arrives_ms: arrival(manners, rng),
            // The lower of two draws: some slots are wanted more than others, as in life.
            first_slot: rng.random_range(0..slots).min(rng.random_range(0..slots)),
            double_clicks: chance(manners.double_click_percent, rng),
            repeats: chance(manners.same_key_percent, rng),
            renews_key: chance(manners.new_key_percent, rng),
            tries_neighbour: chance(manners.other_slot_percent, rng),
            is_determined: u64::from(index) < determined,
            // 10.0.0.0/8 has room for every patient; the first address is left out.
            address: Ipv4Addr::from(0x0a00_0000 | ((index + 1) & 0x00ff_ffff)),
        })
        .collect();
    visits.shuffle(rng);
    visits
}

fn chance(percent: u8, rng: &mut impl Rng) -> bool {
    rng.random_range(0..100) < percent
}

fn arrival(manners: Manners, rng: &mut impl Rng) -> i64 {
    let draw = rng.random_range(0..100);
    if draw < manners.early_percent {
        rng.random_range(-1_000..0)
    } else if draw < manners.early_percent.saturating_add(manners.first_second_percent) {
        // The square leans towards the opening: nobody waits for the end of the first second.
        let unit: f64 = rng.random();
        #[expect(clippy::cast_possible_truncation, reason = "0 to 1000")]
        let ms = (unit * unit * 1_000.0) as i64;
        ms
    } else {
        1_000 + i64::from(rng.random_range(0..=manners.tail_ms))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn visits(patients: u32, places: u32, slots: usize) -> Vec<Visit> {
        let mut rng = StdRng::seed_from_u64(7);
        draw(patients, places, slots, Manners::default(), &mut rng)
    }

    #[test]
    fn most_come_in_the_first_second_some_early_some_late() {
        let visits = visits(10_000, 100, 8);
        let within = |from: i64, to: i64| {
            visits.iter().filter(|v| (from..to).contains(&v.arrives_ms)).count()
        };
        assert!((600..1_000).contains(&within(-1_000, 0)));
        assert!((5_800..6_600).contains(&within(0, 1_000)));
        assert!((2_500..3_500).contains(&within(1_000, 4_001)));
        assert!(within(0, 500) > within(500, 1_000));
    }

    #[test]
    fn enough_patients_are_determined_to_sell_every_place() {
        let count = |v: &[Visit]| v.iter().filter(|v| v.is_determined).count();
        assert_eq!(count(&visits(20_000, 200, 8)), 2_000);
        assert_eq!(count(&visits(1_000, 200, 8)), 400);
        assert_eq!(count(&visits(50, 200, 8)), 50);
    }

    #[test]
    fn one_patient_and_one_slot_is_a_crowd() {
        let visits = visits(1, 1, 1);
        assert_eq!((visits.len(), visits[0].first_slot), (1, 0));
        assert!(visits[0].is_determined);
    }

    #[test]
    fn every_patient_has_an_address_of_their_own() {
        let visits = visits(5_000, 10, 2);
        let addresses: std::collections::HashSet<_> = visits.iter().map(|v| v.address).collect();
        assert_eq!(addresses.len(), visits.len());
    }
}
