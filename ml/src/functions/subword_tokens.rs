//! `tidemill_subword_tokens(text, tokenizer, max_length, truncation, padding, stage, column)`: a text as the numbers of
//! its tokens, with the special ones of the tokenizer, and a mask that is 1 for each and 0 where padded.
//!
//! The result is a struct `input_ids, attention_mask` of lists of `Int64`: with `padding` of the fixed size
//! `max_length`. The tokenizer is the text of a Hugging Face `tokenizer.json`. Texts of more than `max_length` tokens are
//! cut with `truncation` and fail without, naming stage and column. A null text gives null lists.
//!
//! All arguments but the text are literals. A process reads a tokenizer once and keeps the last few.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, AsArray, FixedSizeListArray, Int64Array, ListArray, StringArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, internal_err, plan_err};
use datafusion::functions::expr_fn::get_field;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use tokenizers::{PaddingParams, PaddingStrategy, PostProcessor, Tokenizer, TruncationParams, TruncationStrategy};

use super::support;

const NAME: &str = "tidemill_subword_tokens";
/// Tokenizers that a process keeps: more than the stages of a few pipelines have, each of some ten megabytes. Beyond it
/// the one that was not used for longest is read again when it is asked for.
const MAX_TOKENIZERS: usize = 8;

static TOKENIZERS: Mutex<Vec<Prepared>> = Mutex::new(Vec::new());

/// How long the lists are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LengthRule {
    /// The most tokens, special ones among them.
    pub(crate) max_length: u32,
    /// Whether longer texts are cut.
    pub(crate) truncation: bool,
    /// Whether all lists have `max_length` tokens.
    pub(crate) padding: bool,
}

impl LengthRule {
    /// The type of the lists.
    pub(crate) fn list_type(self) -> DataType {
        let item = Arc::new(Field::new_list_field(DataType::Int64, false));
        if self.padding { DataType::FixedSizeList(item, self.max_length as i32) } else { DataType::List(item) }
    }

    fn fields(self) -> Fields {
        ["input_ids", "attention_mask"].into_iter().map(|name| Field::new(name, self.list_type(), true)).collect()
    }

    /// Out of the literals `max_length, truncation, padding`.
    fn of_literals(literals: [Option<&ScalarValue>; 3]) -> Result<Self> {
        let [
            Some(ScalarValue::Int64(Some(max_length))),
            Some(ScalarValue::Boolean(Some(truncation))),
            Some(ScalarValue::Boolean(Some(padding))),
        ] = literals
        else {
            return plan_err!("{NAME} takes a length, true or false, and true or false as literals");
        };
        match i32::try_from(*max_length) {
            Ok(length) if length > 0 => {
                Ok(Self { max_length: length as u32, truncation: *truncation, padding: *padding })
            }
            _ => plan_err!("{NAME}: the length is a literal of at least 1, got {max_length}"),
        }
    }
}

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(SubwordTokens { signature: Signature::any(7, Volatility::Immutable) }))
}

/// The numbers of a text's tokens, and their mask.
pub(crate) fn subword_tokens(text: Expr, tokenizer: &str, rule: LengthRule, stage: &str, column: &str) -> [Expr; 2] {
    let rule = [lit(i64::from(rule.max_length)), lit(rule.truncation), lit(rule.padding)];
    let both = udf().call([text, lit(tokenizer)].into_iter().chain(rule).chain([lit(stage), lit(column)]).collect());
    [get_field(both.clone(), "input_ids"), get_field(both, "attention_mask")]
}

/// A tokenizer that was read.
struct Prepared {
    digest: blake3::Hash,
    rule: LengthRule,
    tokenizer: Arc<Tokenizer>,
}

/// The tokenizer of a `tokenizer.json`, cutting and padding by the rule.
///
/// # Errors
/// What is wrong with it, in a line.
pub(crate) fn prepare(json: &str, rule: LengthRule) -> Result<Arc<Tokenizer>, String> {
    let digest = blake3::hash(json.as_bytes());
    let mut kept = TOKENIZERS.lock().unwrap_or_else(PoisonError::into_inner);
    let found = kept.iter().position(|p| p.digest == digest && p.rule == rule);
    let prepared = match found {
        Some(index) => kept.remove(index),
        None => Prepared { digest, rule, tokenizer: Arc::new(read(json, rule)?) },
    };
    let tokenizer = Arc::clone(&prepared.tokenizer);
    // The one used last stands last.
    kept.push(prepared);
    if kept.len() > MAX_TOKENIZERS {
        kept.remove(0);
    }
    Ok(tokenizer)
}

fn read(json: &str, rule: LengthRule) -> Result<Tokenizer, String> {
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(|e| e.to_string())?;
    let max_length = rule.max_length as usize;
    let n_special = tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
    if max_length <= n_special {
        return Err(format!("\"max_length\" of {max_length} has no room beside its {n_special} special tokens"));
    }
    let direction = tokenizer.get_truncation().map(|params| params.direction).unwrap_or_default();
    let truncation = TruncationParams { direction, max_length, strategy: TruncationStrategy::LongestFirst, stride: 0 };
    tokenizer.with_truncation(rule.truncation.then_some(truncation)).map_err(|e| e.to_string())?;
    let own = tokenizer.get_padding().cloned().unwrap_or_else(|| default_padding(&tokenizer));
    let padding = PaddingParams { strategy: PaddingStrategy::Fixed(max_length), pad_to_multiple_of: None, ..own };
    tokenizer.with_padding(rule.padding.then_some(padding));
    Ok(tokenizer)
}

/// Padding with the usual token for it, where the tokenizer has one.
fn default_padding(tokenizer: &Tokenizer) -> PaddingParams {
    let usual = ["[PAD]", "<pad>"].iter().find_map(|token| Some((*token, tokenizer.token_to_id(token)?)));
    let padding = PaddingParams::default();
    match usual {
        Some((token, id)) => PaddingParams { pad_token: token.to_owned(), pad_id: id, ..padding },
        None => padding,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SubwordTokens {
    signature: Signature,
}

impl ScalarUDFImpl for SubwordTokens {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("{NAME} has a type by its literals")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [_, _, max_length, truncation, padding, ..] = args.scalar_arguments else {
            return plan_err!("{NAME} takes a text and six literals, got {} arguments", args.scalar_arguments.len());
        };
        let rule = LengthRule::of_literals([*max_length, *truncation, *padding])?;
        Ok(Arc::new(Field::new(NAME, DataType::Struct(rule.fields()), false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [text, tokenizer, max_length, truncation, padding, stage, column] = args.args.as_slice() else {
            return plan_err!("{NAME} takes a text and six literals, got {} arguments", args.args.len());
        };
        let rule = LengthRule::of_literals([scalar(max_length), scalar(truncation), scalar(padding)])?;
        let Some(json) = support::text_literal(tokenizer) else {
            return plan_err!("{NAME} takes a tokenizer as a literal");
        };
        let texts = cast(&text.to_array(args.number_rows)?, &DataType::Utf8)?;
        let tokenizer = prepare(json, rule).map_err(|e| exec_datafusion_err!("{NAME}: {e}"))?;
        let tokens = Tokens::of(texts.as_string(), &tokenizer, rule).map_err(|e| {
            let (stage, column) = (support::text_literal(stage), support::text_literal(column));
            exec_datafusion_err!("stage {}: column {:?} {e}", stage.unwrap_or_default(), column.unwrap_or_default())
        })?;
        Ok(ColumnarValue::Array(tokens.into_struct(rule)?))
    }
}

fn scalar(value: &ColumnarValue) -> Option<&ScalarValue> {
    match value {
        ColumnarValue::Scalar(value) => Some(value),
        ColumnarValue::Array(_) => None,
    }
}

/// The tokens of all rows, one after the other.
#[derive(Default)]
struct Tokens {
    ids: Vec<i64>,
    mask: Vec<i64>,
    lengths: Vec<usize>,
    valid: Vec<bool>,
}

impl Tokens {
    fn of(texts: &StringArray, tokenizer: &Tokenizer, rule: LengthRule) -> Result<Self, String> {
        let mut tokens = Self::default();
        for text in texts {
            match text {
                Some(text) => tokens.push(text, tokenizer, rule)?,
                None => tokens.push_null(rule),
            }
        }
        Ok(tokens)
    }

    fn push(&mut self, text: &str, tokenizer: &Tokenizer, rule: LengthRule) -> Result<(), String> {
        let encoding = tokenizer.encode_fast(text, true).map_err(|e| format!("has a text that is not encoded: {e}"))?;
        let (n, max_length) = (encoding.len(), rule.max_length as usize);
        if n > max_length {
            return Err(format!(
                "has a text of {n} tokens, more than \"max_length\", {max_length}; use truncation = true"
            ));
        }
        self.ids.extend(encoding.get_ids().iter().map(|&id| i64::from(id)));
        self.mask.extend(encoding.get_attention_mask().iter().map(|&bit| i64::from(bit)));
        self.lengths.push(n);
        self.valid.push(true);
        Ok(())
    }

    fn push_null(&mut self, rule: LengthRule) {
        let n = if rule.padding { rule.max_length as usize } else { 0 };
        self.ids.extend(std::iter::repeat_n(0, n));
        self.mask.extend(std::iter::repeat_n(0, n));
        self.lengths.push(n);
        self.valid.push(false);
    }

    fn into_struct(self, rule: LengthRule) -> Result<ArrayRef> {
        let nulls = NullBuffer::from(self.valid);
        let lists = [self.ids, self.mask].map(|values| list(values, &self.lengths, &nulls, rule));
        let lists = lists.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(StructArray::try_new(rule.fields(), lists, None)?))
    }
}

fn list(values: Vec<i64>, lengths: &[usize], nulls: &NullBuffer, rule: LengthRule) -> Result<ArrayRef> {
    let (values, nulls) = (Arc::new(Int64Array::from(values)), Some(nulls.clone()));
    Ok(match rule.list_type() {
        DataType::FixedSizeList(item, size) => Arc::new(FixedSizeListArray::try_new(item, size, values, nulls)?),
        DataType::List(item) => {
            let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
            Arc::new(ListArray::try_new(item, offsets, values, nulls)?)
        }
        other => return exec_err!("{NAME} makes lists, not {other}"),
    })
}
