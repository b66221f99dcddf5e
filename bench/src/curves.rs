//! Latency curves as SVG: offered load against p50, p99, p99.9 (on a log axis) and the share shed.
//!
//! Written by hand, because it is one picture; the same points always give the same text.

use std::fmt::{self, Write as _};

use serde::Serialize;

/// Size of the picture, px.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 480.0;
/// Both panels, px.
const LEFT: f64 = 72.0;
const RIGHT: f64 = WIDTH - 24.0;
/// The panel of latencies, px.
const LATENCY: Panel = Panel { top: 92.0, bottom: 326.0 };
/// The panel of what was shed, px.
const SHED: Panel = Panel { top: 356.0, bottom: 426.0 };
/// About as many numbers stand along the load.
const LOAD_TICKS: f64 = 8.0;

/// One offered load and what it led to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Offered load, requests/s.
    pub offered_per_s: f64,
    /// Latency of what was accepted, ms. What is not more than zero is a gap in the line.
    pub p50_ms: f64,
    /// The same.
    pub p99_ms: f64,
    /// The same.
    pub p99_9_ms: f64,
    /// Share of requests shed or never sent, 0 to 1.
    pub shed_share: f64,
}

/// What the page around the picture looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Dark on white.
    Light,
    /// Light on near black.
    Dark,
}

/// Draws the curves: title, a line below it (machine, date, commit), points by rising load.
pub fn draw(title: &str, subtitle: &str, points: &[Point], theme: Theme) -> String {
    let mut svg = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut svg, title, subtitle, points, theme);
    svg
}

/// Where a panel begins and ends, px from above.
#[derive(Clone, Copy)]
struct Panel {
    top: f64,
    bottom: f64,
}

struct Colours {
    paper: &'static str,
    ink: &'static str,
    /// For what matters less.
    faint: &'static str,
    grid: &'static str,
    /// p50, p99, p99.9, shed: told apart by everybody, and by their marks too.
    lines: [&'static str; 4],
}

const fn colours(theme: Theme) -> Colours {
    match theme {
        Theme::Light => Colours {
            paper: "#ffffff",
            ink: "#1f2328",
            faint: "#59636e",
            grid: "#d9dee3",
            lines: ["#0072b2", "#c2570c", "#8250df", "#b3261e"],
        },
        Theme::Dark => Colours {
            paper: "#0d1117",
            ink: "#e6edf3",
            faint: "#9198a1",
            grid: "#2b323b",
            lines: ["#58a6ff", "#f0a04b", "#c39bff", "#ff7b72"],
        },
    }
}

/// A mark on a line.
#[derive(Clone, Copy)]
enum Mark {
    Circle,
    Square,
    Diamond,
}

/// A latency of a point, ms.
type Value = fn(&Point) -> f64;

/// The three lines of latencies.
const LINES: [(&str, Mark, Value); 3] = [
    ("p50", Mark::Circle, |point| point.p50_ms),
    ("p99", Mark::Square, |point| point.p99_ms),
    ("p99.9", Mark::Diamond, |point| point.p99_9_ms),
];

fn write(
    svg: &mut String,
    title: &str,
    subtitle: &str,
    points: &[Point],
    theme: Theme,
) -> fmt::Result {
    let colours = colours(theme);
    let (title, subtitle) = (escape(title), escape(subtitle));
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{title}" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="12">"#
    )?;
    writeln!(svg, "<title>{title}</title>")?;
    writeln!(svg, r#"<rect width="{WIDTH}" height="{HEIGHT}" fill="{}"/>"#, colours.paper)?;
    let head = format!(r#"font-size="17" font-weight="600" fill="{}""#, colours.ink);
    text(svg, LEFT, 28.0, &head, &title)?;
    text(svg, LEFT, 48.0, &format!(r#"fill="{}""#, colours.faint), &subtitle)?;
    legend(svg, &colours)?;

    let step = nice_step(largest(points.iter().map(|point| point.offered_per_s)) / LOAD_TICKS);
    let load_max = (largest(points.iter().map(|point| point.offered_per_s)) / step).ceil() * step;
    let x = |load: f64| LEFT + (RIGHT - LEFT) * load / load_max;
    load_axis(svg, &colours, step, load_max, x)?;

    let latencies = || points.iter().flat_map(|point| LINES.map(|(_, _, of)| of(point)));
    let (low, high) = bounds(latencies());
    let height = LATENCY.bottom - LATENCY.top;
    let y = |ms: f64| LATENCY.bottom - height * (ms / low).log10() / (high / low).log10();
    latency_axis(svg, &colours, low, high, y)?;
    for ((_, mark, of), colour) in LINES.iter().zip(colours.lines) {
        let at = |point: &Point| {
            let ms = of(point);
            (ms.is_finite() && ms > 0.0).then(|| (x(point.offered_per_s), y(ms)))
        };
        line(svg, colour, *mark, points.iter().map(at))?;
    }

    shed_axis(svg, &colours)?;
    let y = |share: f64| SHED.bottom - (SHED.bottom - SHED.top) * share.clamp(0.0, 1.0);
    let at = |point: &Point| Some((x(point.offered_per_s), y(point.shed_share)));
    line(svg, colours.lines[3], Mark::Circle, points.iter().map(at))?;
    writeln!(svg, "</svg>")
}

fn legend(svg: &mut String, colours: &Colours) -> fmt::Result {
    let y = 72.0;
    for (index, ((name, mark, _), colour)) in (0_u8..).zip(LINES.iter().zip(colours.lines)) {
        let x = LEFT + 80.0 * f64::from(index);
        line(svg, colour, *mark, [Some((x, y)), Some((x + 24.0, y))].into_iter())?;
        text(svg, x + 32.0, y + 4.0, &format!(r#"fill="{}""#, colours.ink), name)?;
    }
    Ok(())
}

fn load_axis(
    svg: &mut String,
    colours: &Colours,
    step: f64,
    load_max: f64,
    x: impl Fn(f64) -> f64,
) -> fmt::Result {
    let style = format!(r#"fill="{}" text-anchor="middle""#, colours.faint);
    let mut load = 0.0;
    while load <= load_max + step / 2.0 {
        for Panel { top, bottom } in [LATENCY, SHED] {
            grid(svg, colours, (x(load), top), (x(load), bottom))?;
        }
        text(svg, x(load), SHED.bottom + 18.0, &style, &number(load))?;
        load += step;
    }
    let style = format!(r#"fill="{}" text-anchor="middle""#, colours.ink);
    text(svg, f64::midpoint(LEFT, RIGHT), SHED.bottom + 40.0, &style, "offered load, requests/s")
}

fn latency_axis(
    svg: &mut String,
    colours: &Colours,
    low: f64,
    high: f64,
    y: impl Fn(f64) -> f64,
) -> fmt::Result {
    let style = format!(r#"fill="{}" text-anchor="end""#, colours.faint);
    // Within few decades the numbers between are needed, beyond they would crowd.
    let between: &[f64] = if high / low <= 1_001.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let mut decade = 10_f64.powf(low.log10().floor());
    while decade <= high * 1.001 {
        for ms in between.iter().map(|factor| factor * decade) {
            // A little more on both sides, because powers are not exact.
            if (low * 0.999..=high * 1.001).contains(&ms) {
                grid(svg, colours, (LEFT, y(ms)), (RIGHT, y(ms)))?;
                text(svg, LEFT - 8.0, y(ms) + 4.0, &style, &number(ms))?;
            }
        }
        decade *= 10.0;
    }
    beside(svg, colours, LATENCY, "latency, ms (log)")
}

fn shed_axis(svg: &mut String, colours: &Colours) -> fmt::Result {
    let style = format!(r#"fill="{}" text-anchor="end""#, colours.faint);
    for (share, label) in [(0.0, "0"), (0.5, "50"), (1.0, "100")] {
        let y = SHED.bottom - (SHED.bottom - SHED.top) * share;
        grid(svg, colours, (LEFT, y), (RIGHT, y))?;
        text(svg, LEFT - 8.0, y + 4.0, &style, label)?;
    }
    beside(svg, colours, SHED, "shed, %")
}

/// What an axis means, along it.
fn beside(svg: &mut String, colours: &Colours, panel: Panel, label: &str) -> fmt::Result {
    let y = f64::midpoint(panel.top, panel.bottom);
    let style =
        format!(r#"fill="{}" text-anchor="middle" transform="rotate(-90 20 {y:.1})""#, colours.ink);
    text(svg, 20.0, y, &style, label)
}

fn grid(svg: &mut String, colours: &Colours, from: (f64, f64), to: (f64, f64)) -> fmt::Result {
    let (x1, y1, x2, y2, colour) = (from.0, from.1, to.0, to.1, colours.grid);
    writeln!(
        svg,
        r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}"/>"#
    )
}

/// Joins what has no gap between, and marks each point.
fn line(
    svg: &mut String,
    colour: &str,
    mark: Mark,
    points: impl Iterator<Item = Option<(f64, f64)>>,
) -> fmt::Result {
    let (mut path, mut marks, mut is_joined) = (String::new(), String::new(), false);
    for point in points {
        if let Some((x, y)) = point {
            write!(path, "{}{x:.1} {y:.1}", if is_joined { " L" } else { " M" })?;
            match mark {
                Mark::Circle => writeln!(marks, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.5"/>"#)?,
                Mark::Square => {
                    let (x, y) = (x - 3.2, y - 3.2);
                    writeln!(marks, r#"<rect x="{x:.1}" y="{y:.1}" width="6.4" height="6.4"/>"#)?;
                }
                Mark::Diamond => {
                    writeln!(
                        marks,
                        r#"<path d="M{x:.1} {y:.1} m0 -4.6 l4.6 4.6 l-4.6 4.6 l-4.6 -4.6 z"/>"#
                    )?;
                }
            }
        }
        is_joined = point.is_some();
    }
    let path = path.trim_start();
    writeln!(svg, r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>"#)?;
    writeln!(svg, "<g fill=\"{colour}\">\n{marks}</g>")
}

fn text(svg: &mut String, x: f64, y: f64, style: &str, content: &str) -> fmt::Result {
    writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" {style}>{content}</text>"#)
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;")
}

/// The largest that is a number and more than zero, or one.
fn largest(values: impl Iterator<Item = f64>) -> f64 {
    let largest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
    if largest > 0.0 { largest } else { 1.0 }
}

/// The next of 1, 2, 5, 10, 20, 50, … (and 0.5, 0.2, …).
fn nice_step(at_least: f64) -> f64 {
    let decade = 10_f64.powf(at_least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * decade >= at_least);
    factor.unwrap_or(10.0) * decade
}

/// The next of 1, 2, 5, 10, … on both sides of the values.
fn bounds(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let largest = largest(values.clone());
    let is_drawn = |value: &f64| value.is_finite() && *value > 0.0;
    let smallest = values.filter(is_drawn).fold(largest, f64::min);
    // Of 1, 2, 5, 10 the inverses are 1, 0.5, 0.2, 0.1.
    let low = 1.0 / nice_step(1.0 / smallest);
    (low, nice_step(largest).max(low * 10.0))
}

/// A number as short as it can be: `0.2`, `50`, `1,000`, `20k`.
fn number(value: f64) -> String {
    if value >= 10_000.0 {
        let thousands = (value / 100.0).round() / 10.0;
        return format!("{thousands}k");
    }
    // Sums of steps and powers of ten carry errors in the last digits.
    let rounded = (value * 1e4).round() / 1e4;
    if rounded >= 1_000.0 {
        let rest = rounded.rem_euclid(1_000.0);
        return format!("{},{rest:03}", (rounded / 1_000.0).floor());
    }
    format!("{rounded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> Vec<Point> {
        let at = |offered_per_s, p50_ms, p99_ms, p99_9_ms, shed_share| Point {
            offered_per_s,
            p50_ms,
            p99_ms,
            p99_9_ms,
            shed_share,
        };
        vec![
            at(500.0, 0.8, 2.1, 4.0, 0.0),
            at(1_000.0, 0.9, 2.4, 5.2, 0.0),
            at(2_000.0, 1.1, 3.5, 9.0, 0.0),
            at(3_000.0, 1.6, 7.0, 21.0, 0.0),
            at(4_000.0, 4.0, 31.0, 80.0, 0.02),
            at(5_000.0, 12.0, 60.0, 140.0, 0.21),
            at(6_000.0, 14.0, 64.0, 151.0, 0.34),
        ]
    }

    #[test]
    fn the_light_picture_is_as_it_was() {
        let svg =
            draw("Accepting a booking", "2 cores, all on one machine", &points(), Theme::Light);
        insta::assert_snapshot!(svg);
    }

    #[test]
    fn themes_differ_in_colours_only() {
        let draw = |theme| draw("Accepting", "", &points(), theme);
        let (mut light, dark) = (draw(Theme::Light), draw(Theme::Dark));
        assert_ne!(light, dark);
        let (from, to) = (colours(Theme::Light), colours(Theme::Dark));
        let pairs = [(from.paper, to.paper), (from.ink, to.ink), (from.faint, to.faint)];
        let lines = from.lines.into_iter().zip(to.lines);
        for (from, to) in pairs.into_iter().chain([(from.grid, to.grid)]).chain(lines) {
            light = light.replace(from, to);
        }
        assert_eq!(light, dark);
    }

    #[test]
    fn a_load_at_which_nothing_was_accepted_is_a_gap() {
        let mut points = points();
        points[3].p99_ms = 0.0;
        let svg = draw("<&\">", "", &points, Theme::Dark);
        // One path of two pieces, and one mark less.
        assert_eq!(svg.lines().filter(|line| line.matches('M').count() == 2).count(), 1);
        assert_eq!(svg.matches(r#"width="6.4""#).count(), points.len() - 1 + 2);
        assert!(svg.contains("<title>&lt;&amp;&quot;&gt;</title>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn nothing_to_draw_is_drawn_without_nonsense() {
        let svg = draw("Nothing", "", &[], Theme::Light);
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn axes_have_round_numbers() {
        let steps = [0.9, 1.0, 3.0, 700.0, 5_001.0].map(nice_step).map(number);
        assert_eq!(steps, ["1", "1", "5", "1,000", "10k"]);
        let told = [bounds([0.8, 151.0].into_iter()), bounds([3.0].into_iter())];
        let expected = [(0.5, 200.0), (2.0, 20.0)];
        let differ = |((a, b), (c, d)): (&(f64, f64), (f64, f64))| (a - c).abs() + (b - d).abs();
        assert!(told.iter().zip(expected).map(differ).all(|differ| differ < 1e-9), "{told:?}");
        let told = [0.1 + 0.2, 50.0, 2_500.0, 1_005.0, 20_000.0, 12_500.0].map(number);
        assert_eq!(told, ["0.3", "50", "2,500", "1,005", "20k", "12.5k"]);
    }
}
