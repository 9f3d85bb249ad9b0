//! How a file is cut into parts (design, transfer engine).

use crate::storage::{LargeSpec, PartRules};

/// Parts are multiples of this where they have to grow.
const STEP: u64 = 1 << 20;
/// Share of the byte budget that one part takes: so many fit at once.
const PARTS_IN_BUDGET: u64 = 8;
/// A part above this share of the budget is not held in memory.
const STREAM_ABOVE: u64 = 4;

/// How to send a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Whole, in one request.
    Small,
    /// In parts held in memory.
    Parts(LargeSpec),
    /// In parts too large for memory: read twice, hashed and then streamed.
    Streamed(LargeSpec),
}

/// Decides how to send a file of `size` bytes.
///
/// A part is the configured chunk or an eighth of the budget, whichever is smaller, but never below what the store
/// takes, and as large as the limit on the number of parts demands.
pub(super) fn plan(size: u64, rules: PartRules, budget: u64) -> Plan {
    let wanted = rules.chunk.min(budget / PARTS_IN_BUDGET).max(rules.min_part).max(1);
    if size <= wanted && (size < rules.cutoff || rules.cutoff == 0 || size == 0) {
        return Plan::Small;
    }
    let least = size.div_ceil(u64::from(rules.max_parts.max(1)));
    let part_size = if least > wanted { least.next_multiple_of(STEP) } else { wanted };
    let spec = LargeSpec { size, part_size };
    if part_size > budget / STREAM_ABOVE && part_size > rules.min_part {
        Plan::Streamed(spec)
    } else {
        Plan::Parts(spec)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    const S3: PartRules = PartRules {
        min_part: 5 * MIB,
        chunk: 50 * MIB,
        max_parts: 10_000,
        cutoff: 200 * MIB,
        concurrency: 2,
    };

    #[test]
    fn known_sizes() {
        for (size, budget, expected) in [
            (0, 48 * MIB, Plan::Small),
            (6 * MIB, 48 * MIB, Plan::Small),
            (6 * MIB + 1, 48 * MIB, Plan::Parts(LargeSpec { size: 6 * MIB + 1, part_size: 6 * MIB })),
            (100 * MIB, 800 * MIB, Plan::Parts(LargeSpec { size: 100 * MIB, part_size: 50 * MIB })),
            (100_000 * MIB, 48 * MIB, Plan::Parts(LargeSpec { size: 100_000 * MIB, part_size: 10 * MIB })),
            (5 << 40, 48 * MIB, Plan::Streamed(LargeSpec { size: 5 << 40, part_size: 525 * MIB })),
        ] {
            assert_eq!(plan(size, S3, budget), expected, "{size}");
        }
        let early = PartRules { cutoff: 5 * MIB, ..S3 };
        assert!(matches!(plan(5 * MIB, early, 48 * MIB), Plan::Parts(_)));
    }

    proptest! {
        #[test]
        fn parts_cover_the_file_within_the_limits(
            size in 0_u64..(5 << 40),
            budget in 40 * MIB..1024 * MIB,
            chunk in 5 * MIB..5000 * MIB,
            max_parts in 100_u32..=10_000,
        ) {
            let rules = PartRules { chunk, max_parts, ..S3 };
            match plan(size, rules, budget) {
                Plan::Small => prop_assert!(size <= budget / 8 || size <= rules.min_part),
                Plan::Parts(spec) | Plan::Streamed(spec) => {
                    prop_assert!(spec.part_size >= rules.min_part);
                    prop_assert!(spec.parts() <= max_parts);
                    let mut next = 0;
                    for index in 0..spec.parts() {
                        let range = spec.range(index);
                        prop_assert_eq!(range.offset, next);
                        prop_assert!(range.length > 0);
                        prop_assert!(range.length == spec.part_size || index + 1 == spec.parts());
                        next += range.length;
                    }
                    prop_assert_eq!(next, size);
                    if let Plan::Parts(spec) = plan(size, rules, budget) {
                        prop_assert!(spec.part_size <= budget / 4 || spec.part_size == rules.min_part);
                    }
                }
            }
        }
    }
}
