//! Rates out of counts of bytes in windows of equal width.

/// Least, greatest and mean count per window, over all stretches of some length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Of the slowest stretch.
    pub least: f64,
    /// Of the fastest stretch.
    pub most: f64,
    /// Of everything.
    pub mean: f64,
}

/// Looks at every stretch of `width` windows; `None` when there is none.
pub fn spread(counts: &[u64], width: usize) -> Option<Spread> {
    let rates: Vec<f64> = stretches(counts, width).collect();
    let least = rates.iter().copied().reduce(f64::min)?;
    let most = rates.iter().copied().reduce(f64::max)?;
    Some(Spread { least, most, mean: mean(counts) })
}

/// The window from which on every stretch of `width` windows has `rate` per window, give or take a tenth.
pub fn settled_after(counts: &[u64], width: usize, rate: f64) -> Option<usize> {
    let off: Vec<bool> = stretches(counts, width).map(|r| (r / rate - 1.0).abs() > 0.1).collect();
    let first = off.iter().rposition(|off| *off).map_or(0, |last| last + 1);
    (first < off.len()).then_some(first)
}

fn stretches(counts: &[u64], width: usize) -> impl Iterator<Item = f64> {
    counts.windows(width.max(1)).map(mean)
}

fn mean(counts: &[u64]) -> f64 {
    counts.iter().sum::<u64>() as f64 / counts.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_compared() {
        assert_eq!(spread(&[1, 3, 5, 7], 2), Some(Spread { least: 2.0, most: 6.0, mean: 4.0 }));
        assert_eq!(spread(&[1, 3], 3), None);
        assert_eq!(spread(&[], 3), None);
    }

    #[test]
    fn a_rate_is_settled_when_it_stays() {
        for (counts, expected) in [
            (&[100, 100, 50, 50, 50, 50][..], Some(2)),
            (&[50, 50, 50], Some(0)),
            (&[100, 50, 50, 100, 50, 50], Some(4)),
            (&[100, 50, 50, 100], None),
            (&[50], None),
        ] {
            assert_eq!(settled_after(counts, 2, 50.0), expected, "{counts:?}");
        }
    }
}
