//! Sparklines: a course of values in eighths of a cell.

const EIGHTHS: [char; 9] = [
    ' ', '\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}',
    '\u{2588}',
];

/// `height` rows, topmost first, of `width` columns; the newest value stands at the right.
///
/// A value that is not zero leaves a trace.
pub(super) fn sparkline(values: &[u64], most: u64, width: usize, height: usize) -> Vec<String> {
    let steps = 8 * height as u64;
    let level = |value: u64| {
        let scaled = u128::from(value.min(most)) * u128::from(steps) / u128::from(most.max(1));
        let scaled = usize::try_from(scaled).unwrap_or(0);
        scaled.max(usize::from(value > 0))
    };
    let values = &values[values.len().saturating_sub(width)..];
    let row = |row: usize| {
        let below = 8 * (height - 1 - row);
        let cells = values.iter().map(|&value| EIGHTHS[level(value).saturating_sub(below).min(8)]);
        let blank = std::iter::repeat_n(' ', width - values.len());
        blank.chain(cells).collect()
    };
    (0..height).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::sparkline;

    #[test]
    fn values_rise_in_eighths() {
        assert_eq!(sparkline(&[0, 1, 50, 100], 100, 4, 1), [" \u{2581}\u{2584}\u{2588}"]);
        let two = sparkline(&[100, 50, 25], 100, 5, 2);
        assert_eq!(two, ["  \u{2588}  ", "  \u{2588}\u{2588}\u{2584}"]);
        assert_eq!(sparkline(&[], 0, 2, 1), ["  "]);
        assert_eq!(sparkline(&[9, 8, 7], 9, 1, 1).len(), 1);
    }
}
