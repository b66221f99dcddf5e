//! How many bookings may be on their way to the queue at once.
//!
//! A rush comes at one instant: whoever clicks then waits a second rather than being sent away, so the
//! bound is wide. But where bookings come faster than they are carried for longer than that, the line only
//! grows, and all who stand in it wait for what it holds. Then as many are let in as keep the line short,
//! and the others are told at once to come back.
//!
//! A line stands where even the quickest booking of a while was slow (as in `CoDel`, RFC 8289: the least
//! delay tells a line that stands from one that comes and goes), and some hundreds are under way. How long
//! it may be follows from how many are carried in a second (Little's law).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// A line stands where no booking is quicker.
const DELAY_MAX: Duration = Duration::from_millis(50);
/// How long one may then stand in it, on top of what a booking takes where there is none.
const KEPT: Duration = Duration::from_millis(20);
/// What a booking takes without a line, as long as that was never seen.
const UNLINED: Duration = Duration::from_millis(30);
/// The longest that may be: what takes longer than that is not a slow broker but one that stands still.
const UNLINED_MAX: Duration = Duration::from_millis(200);
/// By which part of it that grows in a window, at most: twice as much in five seconds. It falls at once, for
/// a window may be slow because a line begins, but not quick.
const UNLINED_GROWTH: u32 = 64;
/// A look at the delays.
const WINDOW: Duration = Duration::from_millis(100);
/// Windows in a row after which a line stands: a second. After as long without anybody nothing is known.
const WINDOWS: u32 = 10;
/// How long after somebody was turned away it is gone. Longer than a line takes to be one: where hardly more
/// come than are carried it would come and go, and stand for a second each time.
const CALM: Duration = Duration::from_secs(5);
/// Fewer under way are no line.
const LINE_MIN: usize = 512;
/// As many are always let in: on a slow machine, or with a slow broker, few would carry even less.
const LIMIT_MIN: usize = 256;

/// Room for bookings on their way. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Room {
    places: Arc<Semaphore>,
    places_max: usize,
    line: Arc<Mutex<Line>>,
}

/// A place of a booking on its way. Gives it back when dropped.
#[derive(Debug)]
pub struct Place {
    /// Before the permit: what the line is told counts this place still.
    visit: Visit,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Visit {
    line: Arc<Mutex<Line>>,
    began: Instant,
}

/// What is known of the delays.
#[derive(Debug)]
struct Line {
    window_began: Instant,
    /// Of the bookings that ended in this window.
    least: Option<Duration>,
    ended: u32,
    /// Of those that are certain: what is not may have ended because somebody gave it up.
    certain: u32,
    certain_sum: Duration,
    /// When somebody was turned away last, or the limit began.
    turned_away_at: Instant,
    /// The most under way when somebody came in this window.
    most: usize,
    /// Windows in a row in which even the least delay was too long.
    slow: u32,
    /// How many may be under way, while a line stands.
    limit: Option<usize>,
    /// What a booking takes without a line.
    unlined: Duration,
}

impl Room {
    /// Starts empty, for at most `places_max`.
    pub fn new(places_max: usize) -> Self {
        let places = Arc::new(Semaphore::new(places_max));
        let line = Arc::new(Mutex::new(Line::new(Instant::now())));
        metrics::gauge!("slotrush_admissions_limit").set(f64::INFINITY);
        Self { places, places_max, line }
    }

    /// Takes a place; `None` if more are under way than should be.
    pub fn enter(&self) -> Option<Place> {
        self.enter_at(Instant::now())
    }

    fn enter_at(&self, began: Instant) -> Option<Place> {
        let under_way = self.places_max.saturating_sub(self.places.available_permits());
        if !lock(&self.line).lets_in(under_way, began) {
            return None;
        }
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place { visit: Visit { line: Arc::clone(&self.line), began }, _permit: permit })
    }
}

impl Place {
    /// Notes that its booking is on its way no more, as one that was carried: its delay counts.
    pub fn carried(self, is_certain: bool) {
        let Visit { line, began } = &self.visit;
        let now = Instant::now();
        lock(line).note(now.duration_since(*began), is_certain, now);
    }
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    fn new(now: Instant) -> Self {
        Self {
            window_began: now,
            least: None,
            ended: 0,
            certain: 0,
            certain_sum: Duration::ZERO,
            turned_away_at: now,
            most: 0,
            slow: 0,
            limit: None,
            unlined: UNLINED,
        }
    }

    fn lets_in(&mut self, under_way: usize, now: Instant) -> bool {
        self.look(now);
        self.most = self.most.max(under_way);
        let lets_in = self.limit.is_none_or(|limit| under_way < limit);
        if !lets_in {
            self.turned_away_at = now;
        }
        lets_in
    }

    fn note(&mut self, delay: Duration, is_certain: bool, now: Instant) {
        self.look(now);
        self.least = Some(self.least.map_or(delay, |least| least.min(delay)));
        self.ended += 1;
        if is_certain {
            self.certain += 1;
            self.certain_sum += delay;
        }
    }

    /// Judges the window, if it is over.
    fn look(&mut self, now: Instant) {
        let lasted = now.duration_since(self.window_began);
        if lasted < WINDOW {
            return;
        }
        if lasted >= WINDOW * WINDOWS {
            // Nobody came or went for so long: nothing is known of any line.
            self.set(None);
            *self = Self { unlined: self.unlined, ..Self::new(now) };
            return;
        }
        match self.least {
            // Few who are slow are no line: something behind them is.
            _ if self.most < LINE_MIN => self.slow = 0,
            Some(least) if least > DELAY_MAX => self.slow += 1,
            Some(_) => self.slow = 0,
            // None ended: that says nothing for it.
            None => {}
        }
        if self.limit.is_none() && self.most < LINE_MIN && self.certain > 0 {
            let most = self.unlined + self.unlined / UNLINED_GROWTH;
            self.unlined = most.min(self.certain_sum / self.certain).min(UNLINED_MAX);
        }
        let wanted = self.wanted(f64::from(self.ended) / lasted.as_secs_f64());
        let limit = match self.limit {
            None if self.slow < WINDOWS => None,
            None => {
                self.turned_away_at = now;
                Some(wanted)
            }
            Some(_) if now.duration_since(self.turned_away_at) >= CALM => {
                self.slow = 0;
                None
            }
            // At most half as many at once: one window in which few ended says little.
            Some(before) => Some(wanted.max(before / 2)),
        };
        self.set(limit);
        (self.least, self.ended, self.most) = (None, 0, 0);
        (self.certain, self.certain_sum) = (0, Duration::ZERO);
        self.window_began = now;
    }

    /// How many make a line as short as it is kept, if so many are carried.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few million a second at most"
    )]
    fn wanted(&self, per_s: f64) -> usize {
        ((per_s * (self.unlined + KEPT).as_secs_f64()) as usize).max(LIMIT_MIN)
    }

    fn set(&mut self, limit: Option<usize>) {
        match (self.limit, limit) {
            (None, Some(limit)) => {
                tracing::warn!(
                    limit,
                    "bookings come faster than they are carried: some are turned away"
                );
            }
            (Some(_), None) => tracing::info!("bookings are carried as fast as they come again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        if self.limit != limit {
            let limit = limit.and_then(|limit| u32::try_from(limit).ok());
            metrics::gauge!("slotrush_admissions_limit")
                .set(limit.map_or(f64::INFINITY, f64::from));
        }
        self.limit = limit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets windows pass in each of which `per_window` bookings end after `delay` and as many more come
    /// as `come`, while `under_way`; returns how many were let in.
    fn pass(
        line: &mut Line,
        now: &mut Instant,
        windows: u32,
        (per_window, delay): (u32, Duration),
        (come, under_way): (u32, usize),
    ) -> u32 {
        let mut let_in = 0;
        for _ in 0..windows {
            *now += WINDOW / 2;
            (0..per_window).for_each(|_| line.note(delay, true, *now));
            let_in += (0..come).map(|_| u32::from(line.lets_in(under_way, *now))).sum::<u32>();
            *now += WINDOW / 2;
            line.look(*now);
        }
        let_in
    }

    const SLOW: Duration = Duration::from_millis(80);
    const QUICK: Duration = Duration::from_millis(5);

    fn new() -> (Line, Instant) {
        let now = Instant::now();
        (Line::new(now), now)
    }

    #[test]
    fn a_rush_of_a_second_is_let_in_and_what_stands_longer_is_kept_short() {
        let (mut line, mut now) = new();
        assert_eq!(pass(&mut line, &mut now, WINDOWS, (2_000, SLOW), (2_500, 10_000)), 25_000);
        // 20,000 a second: a thousand are under way for 50 ms, while it is not known how long they would be.
        assert_eq!(line.limit, Some(1_000));
        assert_eq!(pass(&mut line, &mut now, 1, (2_000, SLOW), (100, 1_000)), 0);
        assert_eq!(pass(&mut line, &mut now, 1, (2_000, SLOW), (100, 999)), 100);
    }

    #[test]
    fn one_quick_booking_tells_that_no_line_stands() {
        let (mut line, mut now) = new();
        for _ in 0..3 {
            pass(&mut line, &mut now, WINDOWS - 1, (2_000, SLOW), (1, 900));
            line.note(QUICK, true, now);
            pass(&mut line, &mut now, 1, (2_000, SLOW), (1, 900));
        }
        assert_eq!(line.limit, None);
    }

    #[test]
    fn the_limit_goes_when_nobody_was_turned_away_for_five_seconds() {
        let (mut line, mut now) = new();
        pass(&mut line, &mut now, WINDOWS, (2_000, SLOW), (1, 900));
        pass(&mut line, &mut now, 3 * WINDOWS, (2_000, QUICK), (1, 2_000));
        assert_eq!(line.limit, Some(1_000), "somebody was turned away all the time");
        pass(&mut line, &mut now, 49, (2_000, QUICK), (1, 10));
        assert!(line.limit.is_some(), "too many may come again at once");
        pass(&mut line, &mut now, 2, (2_000, QUICK), (1, 10));
        assert_eq!(line.limit, None);
    }

    #[test]
    fn it_follows_what_is_carried_but_is_never_too_small_to_carry_on() {
        let (mut line, mut now) = new();
        pass(&mut line, &mut now, WINDOWS, (4_000, SLOW), (1, 9_000));
        assert_eq!(line.limit, Some(2_000));
        pass(&mut line, &mut now, 1, (0, SLOW), (1, 9_000));
        assert_eq!(line.limit, Some(1_000), "half as many at most, though none ended");
        pass(&mut line, &mut now, 5, (1, SLOW), (1, 9_000));
        assert_eq!(line.limit, Some(LIMIT_MIN));
        pass(&mut line, &mut now, 1, (6_000, SLOW), (1, 9_000));
        assert_eq!(line.limit, Some(3_000));
    }

    #[test]
    fn a_line_is_as_short_as_a_booking_without_one_allows() {
        let ms = Duration::from_millis;
        for (unlined, limit) in [(ms(5), 500), (ms(30), 1_000), (ms(100), 2_400)] {
            let (mut line, mut now) = new();
            // Calm for long enough to know, slow or not.
            pass(&mut line, &mut now, 20 * WINDOWS, (10, unlined), (10, 10));
            pass(&mut line, &mut now, WINDOWS, (2_000, unlined + ms(60)), (2_500, 9_000));
            assert_eq!(line.limit, Some(limit), "{unlined:?}");
        }
    }

    #[test]
    fn a_limit_does_not_hold_back_what_a_slow_broker_could_carry() {
        let (mut line, mut now) = new();
        let unlined = Duration::from_millis(60);
        pass(&mut line, &mut now, 20 * WINDOWS, (400, unlined), (400, 300));
        pass(&mut line, &mut now, WINDOWS, (800, SLOW), (1_500, 9_000));
        // As many as may be under way are, and each takes as long as without a line.
        for _ in 0..WINDOWS {
            let limit = line.limit.expect("somebody was turned away");
            let carried = u32::try_from(limit * 100 / 60).expect("some thousands").min(1_500);
            pass(&mut line, &mut now, 1, (carried, unlined), (carried + 1, limit));
        }
        // It could carry 15,000 a second with 900 under way.
        assert!(line.limit >= Some(900), "{:?}", line.limit);
    }

    #[test]
    fn a_window_in_which_a_line_begins_says_little_of_bookings_without_one() {
        let (mut line, mut now) = new();
        pass(&mut line, &mut now, WINDOWS, (100, QUICK), (100, 10));
        pass(&mut line, &mut now, 3, (1_000, SLOW), (1_000, 400));
        assert!(line.unlined < QUICK * 2);
    }

    #[test]
    fn what_a_booking_takes_without_a_line_is_learnt_of_certain_ones_and_kept() {
        let (mut line, mut now) = new();
        pass(&mut line, &mut now, WINDOWS, (100, QUICK), (100, 10));
        for is_certain in [false, true] {
            now += WINDOW;
            line.note(SLOW, is_certain, now);
            assert_eq!(line.unlined, QUICK, "none that is certain was slow");
        }
        now += WINDOW;
        line.look(now);
        assert!(line.unlined > QUICK);
        let known = line.unlined;
        now += WINDOW * WINDOWS;
        line.look(now);
        assert_eq!(line.unlined, known, "a pause changes no broker");
        pass(&mut line, &mut now, 100 * WINDOWS, (1, UNLINED_MAX * 10), (1, 1));
        assert_eq!(line.unlined, UNLINED_MAX);
    }

    #[test]
    fn a_few_slow_bookings_are_no_line() {
        let (mut line, mut now) = new();
        pass(&mut line, &mut now, 3 * WINDOWS, (1, SLOW), (1, 1));
        assert_eq!(line.limit, None);
        pass(&mut line, &mut now, WINDOWS, (2_000, SLOW), (1, 9_000));
        assert!(line.limit.is_some());
        pass(&mut line, &mut now, 51, (1, SLOW), (1, 1));
        assert_eq!(line.limit, None, "the rush is over, and what is slow is slow still");
    }

    #[test]
    fn after_a_pause_nothing_is_known() {
        let (mut line, mut now) = new();
        pass(&mut line, &mut now, WINDOWS, (2_000, SLOW), (1, 900));
        assert!(line.limit.is_some());
        now += WINDOW * WINDOWS;
        assert!(line.lets_in(10_000, now));
        assert_eq!(line.limit, None);
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let room = Room::new(2);
        let (one, two) = (room.enter(), room.enter());
        assert!(one.is_some() && two.is_some() && room.enter().is_none());
        drop(one);
        two.expect("a place").carried(true);
        assert!(room.enter().is_some());
    }
}
