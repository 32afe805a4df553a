//! One picture: every row's ratios as points, CPU time left, peak memory right.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::stats::{Cell, Quantity, SMALL_KB, Summary};

/// From 1/4 to 4 times the base, as a power of two; points beyond are drawn at the edge.
const EDGE: f64 = 2.0;

const COLOURS: [RGBColor; 12] = [
    RGBColor(214, 39, 40),
    RGBColor(31, 119, 180),
    RGBColor(148, 190, 220),
    RGBColor(44, 160, 44),
    RGBColor(255, 127, 14),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    RGBColor(188, 189, 34),
    RGBColor(23, 190, 207),
    RGBColor(127, 127, 127),
    RGBColor(60, 60, 60),
];

/// Draws the summary into an SVG file.
pub fn draw(summary: &Summary, file: &Path) -> Result<(), Box<dyn Error>> {
    let height = 130 + 18 * u32::try_from(summary.rows.len() + 1)?;
    let root = SVGBackend::new(file, (1180, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (charts, legend) = root.split_vertically(height - 50);
    let (left, right) = charts.split_horizontally(640);
    let base = &summary.allocators[summary.base];
    panel(summary, &left, &format!("CPU time, {base} = 1"), 150, |c| c.cpu_ms.median, |_| true)?;
    panel(
        summary,
        &right,
        &format!("Peak RSS, {base} = 1"),
        10,
        |c| c.peak_kb.median,
        |c| c.peak_kb.median >= SMALL_KB,
    )?;
    for (column, name) in summary.allocators.iter().enumerate() {
        let (x, y) = (20 + 95 * i32::try_from(column)?, 20);
        legend.draw(&Circle::new((x, y), 5, COLOURS[column % COLOURS.len()].filled()))?;
        legend.draw(&Text::new(name.clone(), (x + 9, y - 7), ("sans-serif", 13)))?;
    }
    root.present()?;
    Ok(())
}

fn panel(
    summary: &Summary,
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    label_width: u32,
    of: Quantity,
    keep: fn(&Cell) -> bool,
) -> Result<(), Box<dyn Error>> {
    let lines = summary.rows.len() as f64 + 1.0;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 17))
        .x_label_area_size(30)
        .y_label_area_size(label_width)
        .margin_right(15)
        .build_cartesian_2d(-EDGE..EDGE, -lines..0.0)?;
    let label = |y: &f64| {
        let line = (-y - 0.5).round();
        let row = summary.rows.get(line as usize).map(|(name, _)| name.clone());
        if (-y - 0.5 - line).abs() > 0.01 {
            String::new()
        } else {
            row.unwrap_or_else(|| "geometric mean".into())
        }
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .x_labels(9)
        .x_label_formatter(&|x| format!("{:.2}", x.exp2()))
        .draw()?;
    for line in 0..summary.rows.len() + 1 {
        let y = -(line as f64) - 0.5;
        chart.draw_series(LineSeries::new([(-EDGE, y), (EDGE, y)], RGBColor(225, 225, 225)))?;
        if label_width > 50 {
            let (x_pixel, y_pixel) = chart.backend_coord(&(-EDGE, y));
            let (x_base, y_base) = area.get_base_pixel();
            area.draw(&Text::new(
                label(&y),
                (x_pixel - x_base - 140, y_pixel - y_base - 7),
                ("sans-serif", 13),
            ))?;
        }
    }
    // The first column last, so that it lies on top.
    for column in (0..summary.allocators.len()).rev() {
        let colour = COLOURS[column % COLOURS.len()];
        let rows = summary.rows.iter().enumerate();
        let mut points: Vec<(f64, usize)> = rows
            .filter_map(|(line, (_, cells))| Some((summary.ratio(cells, column, of)?, line)))
            .collect();
        points.extend(summary.geomean(column, of, keep).map(|mean| (mean, summary.rows.len())));
        let radius = if column == 0 { 5 } else { 4 };
        chart.draw_series(points.into_iter().filter(|(ratio, _)| ratio.is_finite()).map(
            |(ratio, line)| {
                let at = (ratio.log2().clamp(-EDGE, EDGE), -(line as f64) - 0.5);
                Circle::new(
                    at,
                    radius,
                    if column == 0 { colour.filled() } else { colour.mix(0.8).filled() },
                )
            },
        ))?;
    }
    Ok(())
}
