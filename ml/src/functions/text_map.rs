//! A hash map by text in which short texts are their own keys.

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringViewArray};
use arrow::datatypes::DataType;
use datafusion::common::{HashMap, Result, exec_err};

/// Bytes of a key.
const KEY_BYTES: usize = 16;
/// The longest text that an Arrow view holds in itself, after its length in the low four bytes.
const VIEW_BYTES: u32 = 12;

/// A text as tables know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextKey<'a> {
    /// Fewer than 16 bytes: the first one lowest, and in the highest byte how many they are.
    Short(u128),
    /// More.
    Long(&'a str),
}

impl TextKey<'_> {
    /// The text itself.
    pub(super) fn text(self) -> String {
        match self {
            Self::Short(key) => short_text(key),
            Self::Long(text) => text.to_owned(),
        }
    }
}

impl<'a> From<&'a str> for TextKey<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        short_key(text).map_or(Self::Long(text), Self::Short)
    }
}

/// A column of text, each in one buffer or as views. Views of short texts hold their keys.
#[derive(Debug, Clone, Copy)]
pub(super) enum Texts<'a> {
    /// `Utf8`.
    Plain(&'a StringArray),
    /// `Utf8View`.
    Views(&'a StringViewArray),
}

impl<'a> Texts<'a> {
    /// The texts of an array.
    ///
    /// # Errors
    /// An array that is of neither type.
    pub(super) fn of(array: &'a ArrayRef) -> Result<Self> {
        match array.data_type() {
            DataType::Utf8 => Ok(Self::Plain(array.as_string())),
            DataType::Utf8View => Ok(Self::Views(array.as_string_view())),
            other => exec_err!("expected a column of text, got {other}"),
        }
    }

    /// What `f` gives for each of them, in order.
    #[inline]
    pub(super) fn map<T, C: FromIterator<T>>(self, mut f: impl FnMut(Option<TextKey<'a>>) -> T) -> C {
        match self {
            Self::Plain(texts) => texts.iter().map(|text| f(text.map(TextKey::from))).collect(),
            Self::Views(texts) if texts.null_count() == 0 => {
                (0..texts.len()).map(|row| f(Some(view_key(texts, row)))).collect()
            }
            Self::Views(texts) => {
                (0..texts.len()).map(|row| f(texts.is_valid(row).then(|| view_key(texts, row)))).collect()
            }
        }
    }
}

/// The key of a view.
#[inline]
fn view_key(texts: &StringViewArray, row: usize) -> TextKey<'_> {
    let view = texts.views()[row];
    let n_bytes = view as u32;
    if n_bytes <= VIEW_BYTES {
        TextKey::Short(view >> 32 | u128::from(n_bytes) << (8 * (KEY_BYTES - 1)))
    } else {
        TextKey::from(texts.value(row))
    }
}

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
    pub(super) fn get<'a>(&self, text: impl Into<TextKey<'a>>) -> Option<&V> {
        match text.into() {
            TextKey::Short(key) => self.short.get(&key),
            TextKey::Long(text) => self.long.get(text),
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
    pub(super) fn get_or_default<'a>(&mut self, text: impl Into<TextKey<'a>>) -> &mut V {
        match text.into() {
            TextKey::Short(key) => self.short.entry(key).or_default(),
            TextKey::Long(text) => self.get_or_default_long(text),
        }
    }

    fn get_or_default_long(&mut self, text: &str) -> &mut V {
        if !self.long.contains_key(text) {
            self.bytes += text.len();
        }
        self.long.entry_ref(text).or_default()
    }
}

/// The key of a short text. Its bytes are loaded as one or two words that overlap, of which the second loses what the
/// first has.
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
    use std::sync::Arc;

    use super::*;

    #[test]
    fn texts_of_any_length_are_told_apart() {
        let long = "ä".repeat(300);
        let texts = ["", "\0", "\0\0", "a", "a\0", "fifteen bytes..", "sixteen bytes...", "sixteen bytes..!", &long];
        let mut map = TextMap::default();
        for (place, text) in texts.iter().enumerate() {
            assert_eq!(map.get(*text), None);
            *map.get_or_default(*text) = place;
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
    fn a_view_has_the_key_of_its_text() {
        let text = "0123456789abcdef";
        let rows: Vec<Option<&str>> = (0..=16).map(|n| Some(&text[..n])).chain([None, Some("ä")]).collect();
        let keys: Vec<_> = rows.iter().map(|row| row.map(TextKey::from)).collect();
        let plain: ArrayRef = Arc::new(StringArray::from(rows.clone()));
        let views: ArrayRef = Arc::new(StringViewArray::from(rows));
        for array in [plain, views] {
            for (start, n) in [(0, 19), (3, 14)] {
                let part = array.slice(start, n);
                let texts = Texts::of(&part).unwrap();
                assert_eq!(texts.map::<_, Vec<_>>(|key| key), keys[start..start + n]);
            }
        }
        let number: ArrayRef = Arc::new(arrow::array::Int8Array::from(vec![1]));
        assert!(Texts::of(&number).unwrap_err().to_string().contains("got Int8"));
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
