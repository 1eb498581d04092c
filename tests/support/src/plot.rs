//! Plots as SVG, to be put into a page: lines over two axes, and bars with a label each.
//!
//! Owns how plots of the project look. It promises a self-contained element without scripts, whose fonts are the
//! reader's. It refuses what cannot be drawn ([`PlotError`]); points that an axis cannot show (not finite, or not above 0
//! on a logarithmic one) are left out.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Size of a plot, in pixels.
const SIZE: (u32, u32) = (920, 360);
/// Colours of series, in order; told apart by most people who do not see all colours (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];
/// Colour of the mesh.
const MESH: RGBColor = RGBColor(225, 225, 225);
/// Height of letters, in pixels.
const SMALL: u32 = 13;
const LARGE: u32 = 18;

/// Height of the legend, and width of what is left of a plot.
const LEGEND: i32 = 22;
const LEFT: u32 = 78;
/// Text is below and in the middle of where it is put.
const CENTRED: Pos = Pos { h_pos: HPos::Center, v_pos: VPos::Top };

/// Named points, drawn as a line in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// The points.
    pub points: Vec<(f64, f64)>,
}

/// An axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis<'a> {
    /// What it shows, with its unit.
    pub title: &'a str,
    /// How it is divided.
    pub scale: Scale,
}

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly; begins at 0 unless there are values below.
    Linear,
    /// By powers of ten.
    Log,
    /// A percentile *p* is given as 1 / (1 − *p*), drawn by powers of ten and written as a percentage.
    Percentile,
}

/// Why there is no plot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlotError {
    /// No point is left that can be drawn.
    #[error("the plot {0:?} has no points")]
    Empty(String),
    /// The library refused.
    #[error("the plot cannot be drawn: {0}")]
    Draw(String),
}

impl Series {
    /// Points called `name`.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { name: name.into(), points: points.into_iter().collect() }
    }
}

impl<'a> Axis<'a> {
    /// Divided evenly.
    pub const fn linear(title: &'a str) -> Self {
        Self { title, scale: Scale::Linear }
    }

    /// Divided by powers of ten.
    pub const fn log(title: &'a str) -> Self {
        Self { title, scale: Scale::Log }
    }

    fn shows(self, value: f64) -> bool {
        value.is_finite() && (self.scale == Scale::Linear || value > 0.0)
    }

    /// From where to where, so that all `values` are shown.
    fn range(self, values: impl Iterator<Item = f64> + Clone) -> std::ops::Range<f64> {
        let (least, most) =
            (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max));
        match self.scale {
            Scale::Linear => {
                let (least, most) = (least.min(0.0), most.max(0.0));
                let room = if most > least { (most - least) * 0.05 } else { 1.0 };
                (if least < 0.0 { least - room } else { 0.0 })..most + room
            }
            Scale::Log => {
                // Whole powers of ten; at least one.
                let (low, high) = (least.log10().floor(), most.log10().ceil());
                10_f64.powf(low)..10_f64.powf(high.max(low + 1.0))
            }
            Scale::Percentile => least.min(1.0)..most.max(10.0),
        }
    }

    fn label(self, value: f64) -> String {
        match self.scale {
            Scale::Percentile => {
                let text = format!("{:.4}", 100.0 - 100.0 / value);
                format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
            }
            Scale::Linear | Scale::Log => number(value),
        }
    }
}

/// Draws `series` over two axes.
pub fn lines(title: &str, x: Axis<'_>, y: Axis<'_>, series: &[Series]) -> Result<String, PlotError> {
    let drawable = |(one, other): &(f64, f64)| x.shows(*one) && y.shows(*other);
    let series: Vec<_> = series
        .iter()
        .map(|each| Series::new(&*each.name, each.points.iter().copied().filter(drawable)))
        .filter(|each| !each.points.is_empty())
        .collect();
    let points = || series.iter().flat_map(|each| each.points.iter());
    if points().next().is_none() {
        return Err(PlotError::Empty(title.to_owned()));
    }
    let (over, up) = (x.range(points().map(|point| point.0)), y.range(points().map(|point| point.1)));
    let frame = Frame { title, x, y };
    match (x.scale == Scale::Linear, y.scale == Scale::Linear) {
        (true, true) => frame.draw(over, up, &series),
        (true, false) => frame.draw(over, up.log_scale(), &series),
        (false, true) => frame.draw(over.log_scale(), up, &series),
        (false, false) => frame.draw(over.log_scale(), up.log_scale(), &series),
    }
}

/// Draws a bar from 0 for each of `bars`, a label and a value, in their order; `x` says what they are.
pub fn bars(title: &str, x: &str, y: Axis<'_>, bars: &[(String, f64)]) -> Result<String, PlotError> {
    if !bars.iter().any(|(_, value)| y.shows(*value)) {
        return Err(PlotError::Empty(title.to_owned()));
    }
    let up = y.range(bars.iter().map(|(_, value)| *value).filter(|value| y.shows(*value)));
    let frame = Frame { title, x: Axis::linear(x), y };
    if y.scale == Scale::Linear {
        frame.bars(up.clone(), up, bars)
    } else {
        frame.bars(up.clone().log_scale(), up, bars)
    }
}

/// What surrounds the points.
struct Frame<'a> {
    title: &'a str,
    x: Axis<'a>,
    y: Axis<'a>,
}

impl Frame<'_> {
    fn draw<X, Y>(&self, x: X, y: Y, series: &[Series]) -> Result<String, PlotError>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
        Y::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
    {
        self.on_paper(|area| {
            let (legend, area) = area.split_vertically(LEGEND);
            draw_legend(&legend, series)?;
            let mut chart = Self::chart(&area).build_cartesian_2d(x, y).map_err(refused)?;
            chart
                .configure_mesh()
                .bold_line_style(MESH)
                .light_line_style(TRANSPARENT)
                .label_style(small())
                .axis_desc_style(small())
                .x_desc(self.x.title)
                .y_desc(self.y.title)
                .x_label_formatter(&|value| self.x.label(*value))
                .y_label_formatter(&|value| self.y.label(*value))
                .draw()
                .map_err(refused)?;
            for (each, style) in series.iter().zip(styles()) {
                chart.draw_series(LineSeries::new(each.points.iter().copied(), style)).map_err(refused)?;
            }
            Ok(())
        })
    }

    fn bars<Y>(&self, y: Y, up: std::ops::Range<f64>, bars: &[(String, f64)]) -> Result<String, PlotError>
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
    {
        self.on_paper(|area| {
            let end = bars.len() as f64;
            let mut chart = Self::chart(area).build_cartesian_2d(0.0..end, y).map_err(refused)?;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .x_labels(0)
                .bold_line_style(MESH)
                .light_line_style(TRANSPARENT)
                .label_style(small())
                .axis_desc_style(small())
                .x_desc(self.x.title)
                .y_desc(self.y.title)
                .y_label_formatter(&|value| self.y.label(*value))
                .draw()
                .map_err(refused)?;
            let shown = bars.iter().zip(0_u32..).filter(|((_, value), _)| self.y.shows(*value));
            let boxes = shown.map(|((_, value), number)| {
                let left = f64::from(number);
                Rectangle::new([(left + 0.15, up.start), (left + 0.85, *value)], COLOURS[0].filled())
            });
            chart.draw_series(boxes).map_err(refused)?;
            // Below the axis: what each bar is and how much.
            let (left, top) = area.get_base_pixel();
            let plotting = chart.plotting_area();
            for ((label, value), number) in bars.iter().zip(0_u32..) {
                let (x, y) = plotting.map_coordinate(&(f64::from(number) + 0.5, up.start));
                let style = small().pos(CENTRED);
                for (text, below) in [(label.clone(), 8), (self.y.label(*value), 24)] {
                    area.draw_text(&text, &style, (x - left, y - top + below)).map_err(refused)?;
                }
            }
            Ok(())
        })
    }

    /// White paper, with the title.
    fn on_paper(
        &self,
        draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), PlotError>,
    ) -> Result<String, PlotError> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            area.fill(&WHITE).map_err(refused)?;
            let area = area.titled(self.title, ("sans-serif", LARGE)).map_err(refused)?;
            draw(&area)?;
            area.present().map_err(refused)?;
        }
        Ok(svg)
    }

    fn chart<'a, 'b>(area: &'a DrawingArea<SVGBackend<'b>, Shift>) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
        let mut chart = ChartBuilder::on(area);
        chart.margin(8).margin_right(24).x_label_area_size(52).y_label_area_size(LEFT - 8);
        chart
    }
}

/// How lines are drawn, in order. The first is wider, to be seen below others.
fn styles() -> impl Iterator<Item = ShapeStyle> {
    COLOURS
        .iter()
        .cycle()
        .enumerate()
        .map(|(number, colour)| colour.stroke_width(if number == 0 { 4 } else { 2 }))
}

/// Names beside each other, from the left edge of the plot on.
fn draw_legend(area: &DrawingArea<SVGBackend<'_>, Shift>, series: &[Series]) -> Result<(), PlotError> {
    let (mut x, y) = (LEFT.cast_signed() + 8, LEGEND / 2);
    for (each, style) in series.iter().zip(styles()) {
        area.draw(&PathElement::new([(x, y), (x + 22, y)], style)).map_err(refused)?;
        let beside = small().pos(Pos { h_pos: HPos::Left, v_pos: VPos::Center });
        area.draw_text(&each.name, &beside, (x + 28, y)).map_err(refused)?;
        // Letters are as wide as half their height, or a little more.
        let letters = i32::try_from(each.name.chars().count()).unwrap_or(i32::MAX);
        x = x.saturating_add(letters.saturating_mul(8)).saturating_add(52);
    }
    Ok(())
}

fn small() -> TextStyle<'static> {
    ("sans-serif", SMALL).into_text_style(&SIZE)
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` wants it")]
fn refused<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> PlotError {
    PlotError::Draw(error.to_string())
}

/// `12000000` as `12M`, `0.05` as it is.
fn number(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        1e9.. => (value / 1e9, "G"),
        1e6.. => (value / 1e6, "M"),
        1e4.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = if scaled.abs() >= 100.0 {
        0
    } else if scaled.abs() >= 1.0 {
        2
    } else {
        4
    };
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests;
