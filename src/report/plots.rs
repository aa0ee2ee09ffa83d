//! Charts as SVG text: the ROC curve, calibration by decile, and the grid's candidates.

use std::fmt::Display;

use plotters::chart::MeshStyle;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use tidemill_engine::jobs::CandidateRecord;
use tidemill_ml::estimator::ProblemType;
use tidemill_ml::eval::{Evaluation, Metric};

use super::ReportError;
use super::format::{metric, metric_name};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Mesh<'a, 'b, 'c> = MeshStyle<'a, 'b, RangedCoordf64, RangedCoordf64, SVGBackend<'c>>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Width and height of the square charts, in pixels of the SVG's own view box.
const SQUARE: (u32, u32) = (460, 420);
/// Width of the grid chart.
const GRID_WIDTH: u32 = 940;
/// Height of one candidate's line in the grid chart.
const GRID_LINE: u32 = 20;
/// Height of the grid chart beside its candidates: title, axis and axis label.
const GRID_FRAME: u32 = 76;
/// Width of the candidates' names in the grid chart.
const GRID_LABELS: u32 = 240;
/// The most candidates that the grid chart shows, best first; a longer chart is no longer looked at.
const MAX_GRID_LINES: usize = 60;

const FONT: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
const INK: RGBColor = RGBColor(38, 50, 56);
const FAINT: RGBColor = RGBColor(226, 230, 233);
const MUTED: RGBColor = RGBColor(144, 156, 163);
/// One colour per estimator, in the order of their names; told apart by readers who see few colours.
const PALETTE: [RGBColor; 6] = [
    RGBColor(0, 109, 143),
    RGBColor(214, 112, 0),
    RGBColor(0, 134, 90),
    RGBColor(152, 78, 163),
    RGBColor(178, 34, 52),
    RGBColor(110, 110, 110),
];

/// The ROC curve with the line of chance.
///
/// # Errors
/// When the plotting library refuses the data.
pub fn roc_plot(evaluation: &Evaluation) -> Result<String, ReportError> {
    svg("ROC", SQUARE, |area| {
        let mut chart = chart(area).build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
        let mut mesh = chart.configure_mesh();
        style(&mut mesh).x_desc("false positive rate").y_desc("true positive rate").draw()?;
        chart.draw_series(diagonal(0.0, 1.0))?;
        let points = finite(&evaluation.roc_curve);
        chart.draw_series(AreaSeries::new(points.clone(), 0.0, PALETTE[0].mix(0.10)))?;
        chart.draw_series(LineSeries::new(points, PALETTE[0].stroke_width(2)))?;
        let area = metric(evaluation.metrics.get(Metric::AreaUnderRoc.name()).copied());
        chart.draw_series([Text::new(format!("area {area}"), (0.66, 0.12), text(15))])?;
        Ok(())
    })
}

/// Mean prediction against mean label, a point per decile, with the line of perfect calibration.
///
/// # Errors
/// When the plotting library refuses the data.
pub fn calibration_plot(evaluation: &Evaluation) -> Result<String, ReportError> {
    let points: Vec<(f64, f64)> = evaluation.calibration.iter().map(|b| (b.mean_prediction, b.mean_label)).collect();
    let points = finite(&points);
    let is_binary = evaluation.problem_type == ProblemType::Binary;
    let (low, high) =
        points.iter().fold((f64::MAX, f64::MIN), |(low, high), (x, y)| (low.min(*x).min(*y), high.max(*x).max(*y)));
    let (low, high) = if is_binary || low >= high {
        (0.0, ((high * 10.5).ceil() / 10.0).clamp(0.1, 1.0))
    } else {
        (low - (high - low) * 0.05, high + (high - low) * 0.05)
    };
    let axes = if is_binary { ["mean score", "actual rate"] } else { ["mean prediction", "mean label"] };
    svg("calibration", SQUARE, |area| {
        let mut chart = chart(area).build_cartesian_2d(low..high, low..high)?;
        let mut mesh = chart.configure_mesh();
        style(&mut mesh).x_desc(format!("{} of the decile", axes[0])).y_desc(axes[1]).draw()?;
        chart.draw_series(diagonal(low, high))?;
        chart.draw_series(LineSeries::new(points.clone(), PALETTE[0].stroke_width(2)))?;
        chart.draw_series(points.iter().map(|p| Circle::new(*p, 4, PALETTE[0].filled())))?;
        Ok(())
    })
}

/// Each candidate's mean over folds as a dot and the range of its folds as a line, in the order given, a colour per
/// estimator. Candidates that failed are not shown.
///
/// # Errors
/// When the plotting library refuses the data.
pub fn grid_plot(candidates: &[&CandidateRecord], metric: &str) -> Result<String, ReportError> {
    let lines: Vec<Line<'_>> = candidates.iter().filter_map(|c| Line::of(c)).take(MAX_GRID_LINES).collect();
    let (low, high) = range(&lines);
    let height = lines.iter().fold(GRID_FRAME, |h, _| h + GRID_LINE);
    let estimators = estimators(&lines);
    svg("grid", (GRID_WIDTH, height), |area| {
        let bottom = lines.len() as f64 - 0.5;
        let mut chart = chart(area).y_label_area_size(GRID_LABELS).build_cartesian_2d(low..high, bottom..-0.5)?;
        let mut mesh = chart.configure_mesh();
        let axis = format!("{}: mean and range of the folds", metric_name(metric));
        style(&mut mesh).disable_y_mesh().disable_y_axis().x_labels(8).x_desc(axis).draw()?;
        for (i, line) in lines.iter().enumerate() {
            let (y, color) = (i as f64, color(&estimators, line.estimator));
            chart.draw_series(LineSeries::new([(line.low, y), (line.high, y)], color.mix(0.45).stroke_width(3)))?;
            chart.draw_series([Circle::new((line.mean, y), 5, color.filled())])?;
            let (left, middle) = chart.backend_coord(&(low, y));
            let style = text(13).color(&color).pos(Pos::new(HPos::Right, VPos::Center));
            area.draw_text(&line.label(), &style, (left - 10, middle))?;
        }
        Ok(())
    })
}

/// What the grid chart shows of a candidate.
struct Line<'a> {
    id: usize,
    estimator: &'a str,
    mean: f64,
    low: f64,
    high: f64,
}

impl<'a> Line<'a> {
    fn of(candidate: &'a CandidateRecord) -> Option<Self> {
        let mean = candidate.mean.filter(|m| m.is_finite())?;
        let folds = candidate.folds.iter().flatten().copied().filter(|f| f.is_finite());
        let (low, high) = folds.fold((mean, mean), |(low, high), f| (low.min(f), high.max(f)));
        Some(Self { id: candidate.id, estimator: &candidate.estimator, mean, low, high })
    }

    fn label(&self) -> String {
        format!("{} #{}", self.estimator.replace('_', " "), self.id)
    }
}

/// The metric's range over all lines with a margin.
fn range(lines: &[Line<'_>]) -> (f64, f64) {
    let low = lines.iter().fold(f64::INFINITY, |m, l| m.min(l.low));
    let high = lines.iter().fold(f64::NEG_INFINITY, |m, l| m.max(l.high));
    if !low.is_finite() || !high.is_finite() {
        return (0.0, 1.0);
    }
    let margin = ((high - low) * 0.05).max(1e-3);
    (low - margin, high + margin)
}

fn estimators<'a>(lines: &[Line<'a>]) -> Vec<&'a str> {
    let mut names: Vec<&str> = lines.iter().map(|l| l.estimator).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn color(estimators: &[&str], name: &str) -> RGBColor {
    let index = estimators.iter().position(|e| *e == name).unwrap_or(0);
    PALETTE[index % PALETTE.len()]
}

/// Draws on a white canvas and gives the SVG's text, scaling with the page.
fn svg(chart: &'static str, size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String, ReportError> {
    let mut text = String::new();
    let error = |e: &dyn Display| ReportError { chart, why: e.to_string() };
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE).map_err(|e| error(&e))?;
        draw(&area).map_err(|e| error(&e))?;
        area.present().map_err(|e| error(&e))?;
    }
    Ok(text)
}

fn chart<'a, 'b>(area: &'a Area<'b>) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(14).margin_right(20).x_label_area_size(46).y_label_area_size(56);
    builder
}

/// Thin grey lines, small dark labels.
fn style<'m, 'a, 'b, 'c>(mesh: &'m mut Mesh<'a, 'b, 'c>) -> &'m mut Mesh<'a, 'b, 'c> {
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(MUTED)
        .label_style(text(12))
        .axis_desc_style(text(13))
}

fn text(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK)
}

fn diagonal(low: f64, high: f64) -> DashedLineSeries<std::array::IntoIter<(f64, f64), 2>, u32> {
    DashedLineSeries::new([(low, low), (high, high)], 5, 5, MUTED.stroke_width(1))
}

fn finite(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
}

#[cfg(test)]
mod tests {
    use tidemill_ml::eval::CalibrationBin;

    use super::*;

    fn candidate(id: usize, mean: Option<f64>) -> CandidateRecord {
        let folds = vec![mean, mean.map(|m| m + 0.01)];
        CandidateRecord { id, estimator: "gradient_boosted_trees".into(), mean, folds, ..Default::default() }
    }

    #[test]
    fn a_failed_candidate_is_not_drawn() {
        let (good, bad) = (candidate(7, Some(0.7)), candidate(8, None));
        let svg = grid_plot(&[&good, &bad], "area_under_roc").unwrap();
        assert!(svg.contains("gradient boosted trees #7") && !svg.contains("#8"), "{svg}");
    }

    #[test]
    fn no_candidates_still_draw_a_chart() {
        assert!(grid_plot(&[], "area_under_roc").unwrap().starts_with("<svg"));
    }

    #[test]
    fn points_that_are_not_numbers_are_left_out() {
        let roc_curve = vec![(0.0, 0.0), (f64::NAN, 0.5), (1.0, 1.0)];
        let calibration = vec![CalibrationBin { n_rows: 1, mean_prediction: f64::NAN, ..Default::default() }];
        let evaluation = Evaluation { roc_curve, calibration, ..Default::default() };
        assert!(!roc_plot(&evaluation).unwrap().contains("NaN"));
        assert!(!calibration_plot(&evaluation).unwrap().contains("NaN"));
    }
}
