//! Counts of distinct numbers, coarsened by the data alone when there are too many.

use super::exact::take;

/// Bits of an `f64`'s mantissa: at this level all that is left is sign and exponent.
const MAX_LEVEL: u32 = 52;
/// Keys that are gathered before they are sorted in: 128 KiB.
const MAX_BUFFERED: usize = 1 << 14;

/// How often each number came, in total order; NaN is left out.
///
/// While there are at most `limit` distinct numbers the counts are exact. Beyond it the lowest mantissa bits are cut
/// off, as many as it takes: how many depends on the set of numbers only, never on their order or partitioning. The
/// relative error of a number is below `2^(level - 52)`.
#[derive(Debug, Clone)]
pub(super) struct KeyCounts {
    /// Keys and counts in ascending order, without their lowest `level` bits.
    counts: Vec<(u64, u64)>,
    buffer: Vec<u64>,
    level: u32,
    limit: usize,
}

impl KeyCounts {
    pub(super) fn new(limit: usize) -> Self {
        Self { counts: Vec::new(), buffer: Vec::new(), level: 0, limit }
    }

    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        self.buffer.push(to_key(value));
        if self.buffer.len() >= MAX_BUFFERED {
            self.flush();
        }
    }

    /// Whether any bits were cut off.
    pub(super) fn is_coarse(&self) -> bool {
        self.level > 0
    }

    /// The numbers and their counts in ascending order.
    pub(super) fn sorted(&mut self) -> Vec<(f64, u64)> {
        self.flush();
        self.counts.iter().map(|&(key, count)| (from_key(key), count)).collect()
    }

    /// The same numbers with another limit.
    pub(super) fn limited(&mut self, limit: usize) -> Self {
        self.flush();
        let mut limited = Self { level: self.level, ..Self::new(limit) };
        limited.add_sorted(self.counts.clone());
        limited
    }

    /// How many of the lowest bits were cut off.
    pub(super) fn level(&self) -> u32 {
        self.level
    }

    pub(super) fn state_bytes(&mut self) -> Vec<u8> {
        self.flush();
        let mut bytes = Vec::with_capacity(4 + 16 * self.counts.len());
        bytes.extend(self.level.to_le_bytes());
        for (key, count) in &self.counts {
            bytes.extend(key.to_le_bytes());
            bytes.extend(count.to_le_bytes());
        }
        bytes
    }

    /// Adds what another gave as bytes; none when they are damaged.
    pub(super) fn merge(&mut self, mut bytes: &[u8]) -> Option<()> {
        let bytes = &mut bytes;
        let level = u32::from_le_bytes(take(bytes)?);
        let mut counts = Vec::with_capacity(bytes.len() / 16);
        while !bytes.is_empty() {
            counts.push((u64::from_le_bytes(take(bytes)?), u64::from_le_bytes(take(bytes)?)));
        }
        if level > MAX_LEVEL || !counts.is_sorted() {
            return None;
        }
        self.flush();
        self.level = self.level.max(level);
        self.add_sorted(counts);
        Some(())
    }

    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.counts.capacity() * size_of::<(u64, u64)>() + self.buffer.capacity() * size_of::<u64>()
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let mut keys = std::mem::take(&mut self.buffer);
        keys.sort_unstable();
        let counts = keys.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u64)).collect();
        keys.clear();
        self.buffer = keys;
        self.add_sorted(counts);
    }

    fn add_sorted(&mut self, more: Vec<(u64, u64)>) {
        let merged = merge_sorted(&self.counts, &more);
        self.counts = coarsened(merged, self.level);
        if self.counts.len() > self.limit {
            self.level = self.lowest_level();
            self.counts = coarsened(std::mem::take(&mut self.counts), self.level);
        }
    }

    /// The lowest level at which there are at most `limit` distinct keys.
    fn lowest_level(&self) -> u32 {
        // Two neighbours are one key from the level above their highest differing bit on.
        let mut joined_at = [0usize; 65];
        for pair in self.counts.windows(2) {
            joined_at[(64 - (pair[0].0 ^ pair[1].0).leading_zeros()) as usize] += 1;
        }
        let mut distinct = self.counts.len();
        for level in 0..MAX_LEVEL {
            distinct -= joined_at[level as usize];
            if level >= self.level && distinct <= self.limit {
                return level;
            }
        }
        MAX_LEVEL
    }
}

/// Both lists in one, in order; a key of both comes twice.
fn merge_sorted(a: &[(u64, u64)], b: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut merged = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        if a[i].0 <= b[j].0 {
            merged.push(a[i]);
            i += 1;
        } else {
            merged.push(b[j]);
            j += 1;
        }
    }
    merged.extend_from_slice(&a[i..]);
    merged.extend_from_slice(&b[j..]);
    merged
}

/// The keys without their lowest `level` bits, those that became equal added up.
fn coarsened(mut counts: Vec<(u64, u64)>, level: u32) -> Vec<(u64, u64)> {
    counts.iter_mut().for_each(|(key, _)| *key = *key >> level << level);
    counts.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            kept.1 += later.1;
        }
        same
    });
    counts
}

/// The bits of a number, mapped so that unsigned order is total order; the two zeros are one.
fn to_key(value: f64) -> u64 {
    let bits = if value == 0.0 { 0 } else { value.to_bits() };
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// The number of a key; the lowest negative keys, which cutting bits off may reach, are negative infinity's.
fn from_key(key: u64) -> f64 {
    let value = f64::from_bits(if key >> 63 == 1 { key & !(1 << 63) } else { !key });
    if value.is_nan() { f64::NEG_INFINITY } else { value }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_keep_the_order_of_numbers() {
        let numbers = [f64::NEG_INFINITY, -1e300, -1.5, -5e-324, 0.0, 5e-324, 1.0, 1e300, f64::INFINITY];
        assert!(numbers.map(to_key).is_sorted());
        assert_eq!(numbers.map(|n| from_key(to_key(n))), numbers);
    }

    proptest! {
        #[test]
        fn coarsening_depends_on_the_set_alone(
            values in prop::collection::vec(-1e3f64..1e3, 1..300),
            cut in 0usize..300,
            limit in 4usize..64,
        ) {
            let mut forward = KeyCounts::new(limit);
            values.iter().for_each(|&v| forward.add(v));
            let cut = cut.min(values.len());
            let mut merged = KeyCounts::new(limit);
            let mut other = KeyCounts::new(limit);
            values[cut..].iter().rev().for_each(|&v| merged.add(v));
            values[..cut].iter().for_each(|&v| other.add(v));
            merged.merge(&other.state_bytes()).unwrap();
            prop_assert_eq!(forward.state_bytes(), merged.state_bytes());
        }
    }
}
