//! A dashboard's panels as one SVG.

use std::fmt::Write as _;

use crate::prometheus::Line;

pub(crate) struct Panel {
    pub(crate) title: String,
    /// `s`, `ops` or `short`, as Grafana calls them.
    pub(crate) unit: String,
    /// Column and row.
    pub(crate) place: (f64, f64),
    pub(crate) lines: Vec<Line>,
}

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 220.0;
const GAP: f64 = 12.0;
/// Where the plot is inside its panel.
const LEFT: f64 = 52.0;
const TOP: f64 = 34.0;
const RIGHT: f64 = 12.0;
const BOTTOM: f64 = 58.0;
const COLOURS: [&str; 6] = ["#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#b877d9"];

/// Draws `panels` over `seconds`; `subtitle` says what is seen.
pub(crate) fn draw(panels: &[Panel], seconds: f64, subtitle: &str) -> String {
    let place = |panel: &Panel| {
        (GAP + panel.place.0 * (WIDTH + GAP), 46.0 + panel.place.1 * (HEIGHT + GAP))
    };
    let far = |edge: fn((f64, f64)) -> f64| panels.iter().map(place).map(edge).fold(0.0, f64::max);
    let (width, height) = (far(|at| at.0) + WIDTH + GAP, far(|at| at.1) + HEIGHT + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#ccccdc\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#111217\"/>\n\
         <text x=\"{GAP}\" y=\"28\" font-size=\"15\" fill=\"#ffffff\">{}</text>\n",
        escaped(subtitle)
    );
    for panel in panels {
        let (x, y) = place(panel);
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
        one(&mut svg, panel, seconds);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn one(svg: &mut String, panel: &Panel, seconds: f64) {
    let _ = writeln!(
        svg,
        "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"3\" fill=\"#181b1f\" stroke=\"#2c3235\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"12.5\" fill=\"#ffffff\">{}</text>",
        escaped(&panel.title)
    );
    let values = panel.lines.iter().flat_map(|(_, values)| values).flatten();
    let top = nice(values.fold(0.0, |top: f64, value| top.max(*value)));
    let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    for tick in 0..=2_u8 {
        let part = f64::from(tick) / 2.0;
        let (y, x) = (TOP + height * (1.0 - part), LEFT + width * part);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y}h{width}\" stroke=\"#2c3235\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"{}\">{:.0} s</text>",
            LEFT - 6.0,
            y + 4.0,
            shown(top * part, &panel.unit),
            TOP + height + 15.0,
            ["start", "middle", "end"][usize::from(tick)],
            seconds * part,
        );
    }
    let (mut x, mut y) = (LEFT, HEIGHT - 26.0);
    for (n, (name, values)) in panel.lines.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let step = width / (values.len().max(2) - 1) as f64;
        let place =
            |at: usize, value: f64| (LEFT + step * at as f64, TOP + height * (1.0 - value / top));
        // Text is not measured here: a letter takes about so much.
        let wide = 28.0 + 6.2 * name.len() as f64;
        if x > LEFT && x + wide > WIDTH {
            (x, y) = (LEFT, y + 15.0);
        }
        let _ = writeln!(
            svg,
            "<path d=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>\
             <rect x=\"{x}\" y=\"{}\" width=\"10\" height=\"3\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{y}\">{}</text>",
            path(values, place),
            y - 5.0,
            x + 14.0,
            escaped(name)
        );
        x += wide;
    }
}

/// A line with a gap wherever there is no value.
fn path(values: &[Option<f64>], place: impl Fn(usize, f64) -> (f64, f64)) -> String {
    let mut path = String::new();
    let mut pen = 'M';
    for (at, value) in values.iter().enumerate() {
        let Some(value) = value else {
            pen = 'M';
            continue;
        };
        let (x, y) = place(at, *value);
        let _ = write!(path, "{pen}{x:.1} {y:.1}");
        pen = 'L';
    }
    path
}

/// The next round number from `value` on: the top of an axis.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let unit = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 2.5, 4.0, 5.0, 8.0, 10.0];
    steps.iter().map(|step| step * unit).find(|top| *top >= value).unwrap_or(value)
}

fn shown(value: f64, unit: &str) -> String {
    match unit {
        "s" if value > 0.0 && value < 1.0 => format!("{} ms", rounded(value * 1e3)),
        "s" => format!("{} s", rounded(value)),
        "ops" => format!("{}/s", rounded(value)),
        _ => rounded(value),
    }
}

fn rounded(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
