//! A chart over the lab's life as SVG: lines with a legend, an axis with units, and the faults behind them as bands.

use super::markup::Markup;
use crate::model::fault_log::FaultSpan;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 240.0;
/// Where the plot begins and ends within the picture.
const LEFT: f64 = 72.0;
const RIGHT: f64 = 948.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 212.0;

/// How values are spread over the height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// From nothing, evenly.
    Linear,
    /// Ten times as much is as far again; what is smaller than this lies at the bottom.
    Log(f64),
}

/// One line of a chart.
pub(super) struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Moments in seconds, and values; None breaks the line.
    pub points: Vec<(f64, Option<f64>)>,
}

/// A chart.
pub(super) struct Chart<'a> {
    /// What it shows.
    pub title: &'static str,
    /// The lines; the first few have colours and dashes of their own.
    pub series: Vec<Series>,
    /// How values are spread.
    pub scale: Scale,
    /// A value with its unit.
    pub unit: fn(f64) -> String,
    /// The last moment, in seconds.
    pub end: f64,
    /// Faults, for the bands behind.
    pub faults: &'a [FaultSpan],
}

/// Where things lie.
struct Axes {
    end: f64,
    top: f64,
    scale: Scale,
}

impl Axes {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (seconds / self.end).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => value / self.top,
            Scale::Log(least) => (value.max(least) / least).log10() / (self.top / least).log10(),
        };
        BOTTOM - (BOTTOM - TOP) * part.clamp(0.0, 1.0)
    }

    /// The values that have a line of their own.
    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => (0..=4).map(|n| self.top * f64::from(n) / 4.0).collect(),
            Scale::Log(least) => {
                let decades = (self.top / least).log10().round() as i32;
                (0..=decades).map(|n| least * 10f64.powi(n)).collect()
            }
        }
    }
}

impl Chart<'_> {
    /// Draws it.
    pub(super) fn draw(&self, page: &mut Markup) {
        let axes = Axes { end: self.end.max(1.0), top: self.top(), scale: self.scale };
        let (width, height) = (WIDTH, HEIGHT);
        page.open("figure", &[]);
        page.open(
            "svg",
            &[
                ("xmlns", &"http://www.w3.org/2000/svg"),
                ("viewBox", &format!("0 0 {width} {height}")),
                ("role", &"img"),
                ("aria-label", &self.title),
            ],
        );
        self.bands(page, &axes);
        self.grid(page, &axes);
        for (n, series) in self.series.iter().enumerate() {
            line(page, &axes, n, series);
        }
        self.legend(page);
        page.close().leaf("figcaption", &[], self.title).close();
    }

    /// The axis' end: what is greatest, rounded up to a figure that is easily read.
    fn top(&self) -> f64 {
        let values = self.series.iter().flat_map(|s| s.points.iter().filter_map(|(_, value)| *value));
        let most = values.fold(0.0, f64::max);
        match self.scale {
            Scale::Linear => {
                let decade = 10f64.powf(most.max(1.0).log10().floor());
                [1.0, 2.0, 4.0, 5.0, 10.0].iter().map(|n| n * decade).find(|top| *top >= most).unwrap_or(most)
            }
            Scale::Log(least) => least * 10f64.powf((most / least).max(10.0).log10().ceil()),
        }
    }

    fn bands(&self, page: &mut Markup, axes: &Axes) {
        for fault in self.faults {
            let from = axes.x(fault.from.0 as f64 / 1e6);
            let to = axes.x(fault.to.map_or(axes.end, |to| to.0 as f64 / 1e6));
            let width = (to - from).max(1.5);
            let (y, height) = (TOP, BOTTOM - TOP);
            page.open(
                "rect",
                &[
                    ("class", &"fault"),
                    ("x", &format!("{from:.1}")),
                    ("y", &y),
                    ("width", &format!("{width:.1}")),
                    ("height", &height),
                ],
            );
            page.leaf("title", &[], &fault.what).close();
        }
    }

    fn grid(&self, page: &mut Markup, axes: &Axes) {
        for value in axes.ticks() {
            let y = format!("{:.1}", axes.y(value));
            page.empty("line", &[("class", &"grid"), ("x1", &LEFT), ("x2", &RIGHT), ("y1", &y), ("y2", &y)]);
            let below = format!("{:.1}", axes.y(value) + 4.0);
            let (x, text) = (LEFT - 6.0, (self.unit)(value));
            page.leaf("text", &[("x", &x), ("y", &below), ("text-anchor", &"end")], &text);
        }
        for n in 0..=6 {
            let seconds = axes.end * f64::from(n) / 6.0;
            let (x, y) = (format!("{:.1}", axes.x(seconds)), BOTTOM + 18.0);
            page.leaf("text", &[("x", &x), ("y", &y), ("text-anchor", &"middle")], &moment(seconds, axes.end));
        }
    }

    fn legend(&self, page: &mut Markup) {
        let mut x = LEFT;
        for (n, series) in self.series.iter().enumerate() {
            let (to, class) = (x + 22.0, format!("line s{}", n % 6));
            page.empty("line", &[("class", &class), ("x1", &x), ("x2", &to), ("y1", &14), ("y2", &14)]);
            page.leaf("text", &[("x", &(to + 5.0)), ("y", &18)], &series.name);
            x = to + 24.0 + 7.5 * series.name.chars().count() as f64;
        }
    }
}

fn moment(seconds: f64, end: f64) -> String {
    match end {
        0.0..20.0 => format!("{seconds:.1} s"),
        20.0..300.0 => format!("{seconds:.0} s"),
        _ => format!("{}:{:02} min", seconds as u64 / 60, seconds as u64 % 60),
    }
}

/// A line, in as many pieces as it has breaks.
fn line(page: &mut Markup, axes: &Axes, n: usize, series: &Series) {
    let class = format!("line s{}", n % 6);
    for piece in series.points.split(|(_, value)| value.is_none()).filter(|piece| !piece.is_empty()) {
        let places: Vec<String> = piece
            .iter()
            .filter_map(|(at, value)| Some(format!("{:.1},{:.1}", axes.x(*at), axes.y((*value)?))))
            .collect();
        page.empty("polyline", &[("class", &class), ("points", &places.join(" "))]);
    }
}
