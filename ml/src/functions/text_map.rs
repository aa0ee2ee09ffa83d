//! A hash map by text in which short texts are their own keys.

use datafusion::common::HashMap;

/// Bytes of a key.
const KEY_BYTES: usize = 16;

/// Values by text. A text of fewer than 16 bytes, as most categories are, is kept in the table itself: finding it follows
/// no pointer and compares two integers.
#[derive(Debug, Clone)]
pub(super) struct TextMap<V> {
    short: HashMap<u128, V>,
    long: HashMap<String, V>,
    /// Of the long texts.
    bytes: usize,
}

impl<V> Default for TextMap<V> {
    fn default() -> Self {
        Self { short: HashMap::default(), long: HashMap::default(), bytes: 0 }
    }
}

impl<V> TextMap<V> {
    /// How many texts there are.
    pub(super) fn len(&self) -> usize {
        self.short.len() + self.long.len()
    }

    /// The value of a text.
    #[inline]
    pub(super) fn get(&self, text: &str) -> Option<&V> {
        match short_key(text) {
            Some(key) => self.short.get(&key),
            None => self.long.get(text),
        }
    }

    /// All texts and their values, in ascending byte order of the texts.
    pub(super) fn sorted(&mut self) -> Vec<(String, &mut V)> {
        let short = self.short.iter_mut().map(|(key, value)| (short_text(*key), value));
        let long = self.long.iter_mut().map(|(text, value)| (text.clone(), value));
        let mut all: Vec<_> = short.chain(long).collect();
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// How much memory it holds beside itself, in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        let entry = |key: usize| key + size_of::<V>() + 1;
        let tables = self.short.capacity() * entry(KEY_BYTES) + self.long.capacity() * entry(size_of::<String>());
        tables + self.bytes
    }
}

impl<V: Default> TextMap<V> {
    /// The value of a text, which is put there if it was not.
    #[inline]
    pub(super) fn get_or_default(&mut self, text: &str) -> &mut V {
        let Some(key) = short_key(text) else { return self.get_or_default_long(text) };
        self.short.entry(key).or_default()
    }

    fn get_or_default_long(&mut self, text: &str) -> &mut V {
        if !self.long.contains_key(text) {
            self.bytes += text.len();
        }
        self.long.entry_ref(text).or_default()
    }
}

/// A short text as an integer: its bytes, the first one lowest, and in the highest byte how many they are. They are
/// loaded as one or two words that overlap, of which the second loses what the first has.
#[inline]
fn short_key(text: &str) -> Option<u128> {
    let (bytes, n) = (text.as_bytes(), text.len());
    let packed = match n {
        0..4 => bytes.iter().rev().fold(0, |key, byte| key << 8 | u128::from(*byte)),
        4..8 => {
            let (head, tail) = (bytes.first_chunk()?, bytes.last_chunk()?);
            let (head, tail) = (u32::from_le_bytes(*head), u32::from_le_bytes(*tail));
            u128::from(head) | u128::from(tail) >> (8 * (8 - n)) << 32
        }
        8..KEY_BYTES => {
            let (head, tail) = (bytes.first_chunk()?, bytes.last_chunk()?);
            let (head, tail) = (u64::from_le_bytes(*head), u64::from_le_bytes(*tail));
            u128::from(head) | u128::from(tail) >> (8 * (16 - n)) << 64
        }
        _ => return None,
    };
    Some(packed | (n as u128) << (8 * (KEY_BYTES - 1)))
}

fn short_text(key: u128) -> String {
    let bytes = key.to_le_bytes();
    String::from_utf8_lossy(&bytes[..bytes[KEY_BYTES - 1].into()]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_any_length_are_told_apart() {
        let long = "ä".repeat(300);
        let texts = ["", "\0", "\0\0", "a", "a\0", "fifteen bytes..", "sixteen bytes...", "sixteen bytes..!", &long];
        let mut map = TextMap::default();
        for (place, text) in texts.iter().enumerate() {
            assert_eq!(map.get(text), None);
            *map.get_or_default(text) = place;
        }
        *map.get_or_default("a") += 100;
        *map.get_or_default("sixteen bytes...") += 200;
        let expected = [0, 1, 2, 103, 4, 5, 206, 7, 8];
        assert_eq!(texts.map(|text| *map.get(text).unwrap()), expected);
        assert_eq!((map.len(), map.bytes), (texts.len(), 16 + 16 + long.len()));

        let mut pairs: Vec<(&str, usize)> = texts.into_iter().zip(expected).collect();
        pairs.sort_unstable();
        let sorted = map.sorted();
        assert_eq!(sorted.iter().map(|(text, value)| (text.as_str(), **value)).collect::<Vec<_>>(), pairs);
    }

    #[test]
    fn short_texts_are_their_keys() {
        let text = "0123456789abcdef";
        for n in 0..16 {
            let key = short_key(&text[..n]).unwrap();
            assert_eq!(short_text(key), &text[..n]);
            assert_eq!(key.to_le_bytes()[n..15], [0; 16][n..15]);
        }
        assert_eq!(short_key(text), None);
    }
}
