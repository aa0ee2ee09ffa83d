//! Parameters of a job: checked against their types, put into SQL as literals.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use super::spec::{ParamSpec, ParamType};
use crate::{EngineError, Result};

/// Values as the job reads them, by name.
pub(super) type ParamValues = BTreeMap<String, String>;

/// The values of all parameters: those given, then defaults; a default `:other` takes the other's value.
///
/// # Errors
/// A parameter that the job does not have (with the nearest one), one that is missing, a value of another type.
pub(super) fn resolve_params(specs: &BTreeMap<String, ParamSpec>, given: &ParamValues) -> Result<ParamValues> {
    if let Some(unknown) = given.keys().find(|k| !specs.contains_key(*k)) {
        let names = specs.keys().map(String::as_str);
        let hint = crate::nearest(unknown, names).map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
        let known = specs.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(EngineError::Invalid(format!("the job has no parameter {unknown:?}; it has: {known}{hint}")));
    }
    specs.iter().map(|(name, spec)| Ok((name.clone(), value(name, spec, specs, given)?))).collect()
}

fn value(name: &str, spec: &ParamSpec, specs: &BTreeMap<String, ParamSpec>, given: &ParamValues) -> Result<String> {
    let missing =
        || EngineError::Invalid(format!("parameter {name:?} is missing; pass --param {name}={}", example(spec.kind)));
    let text = match (given.get(name), spec.default.as_deref()) {
        (Some(v), _) => v.clone(),
        (None, Some(default)) => match default.strip_prefix(':') {
            Some(other) => {
                let of = specs.get(other).and_then(|s| given.get(other).cloned().or_else(|| s.default.clone()));
                of.filter(|v| !v.starts_with(':')).ok_or_else(missing)?
            }
            None => default.to_owned(),
        },
        (None, None) => return Err(missing()),
    };
    check(name, spec.kind, &text)?;
    Ok(text)
}

fn example(kind: ParamType) -> &'static str {
    match kind {
        ParamType::Date => "2013-11-05",
        ParamType::Integer => "7",
        ParamType::Number => "0.5",
        ParamType::String => "text",
    }
}

fn check(name: &str, kind: ParamType, text: &str) -> Result<()> {
    let (good, expected) = match kind {
        ParamType::Date => (date(text).is_some(), "a date"),
        ParamType::Integer => (text.parse::<i64>().is_ok(), "a whole number"),
        ParamType::Number => (text.parse::<f64>().is_ok_and(f64::is_finite), "a number"),
        ParamType::String => (true, "text"),
    };
    if good {
        return Ok(());
    }
    Err(EngineError::Invalid(format!("parameter {name:?} must be {expected}, e.g. {}; got {text:?}", example(kind))))
}

pub(super) fn date(text: &str) -> Option<NaiveDate> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    (date.to_string() == text).then_some(date)
}

/// Puts each `:name` of a query as a literal; `::` casts and text in quotes stay.
pub(super) fn bind(sql: &str, specs: &BTreeMap<String, ParamSpec>, values: &ParamValues) -> Result<String> {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    let mut quoted = false;
    while let Some(c) = rest.chars().next() {
        let at = c.len_utf8();
        if c == '\'' {
            quoted = !quoted;
        }
        if c == ':' && !quoted {
            if rest[at..].starts_with(':') {
                out.push_str("::");
                rest = &rest[at + 1..];
                continue;
            }
            let name: String = rest[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) {
                out.push_str(&literal(&name, specs, values)?);
                rest = &rest[at + name.len()..];
                continue;
            }
        }
        out.push(c);
        rest = &rest[at..];
    }
    Ok(out)
}

fn literal(name: &str, specs: &BTreeMap<String, ParamSpec>, values: &ParamValues) -> Result<String> {
    let (Some(spec), Some(value)) = (specs.get(name), values.get(name)) else {
        let hint = crate::nearest(name, specs.keys().map(String::as_str))
            .map(|n| format!("; did you mean :{n}?"))
            .unwrap_or_default();
        return Err(EngineError::Invalid(format!(
            "the SQL uses the parameter :{name}, which the job does not declare{hint}"
        )));
    };
    Ok(match spec.kind {
        ParamType::Date => format!("date '{value}'"),
        ParamType::Integer | ParamType::Number => value.clone(),
        ParamType::String => format!("'{}'", value.replace('\'', "''")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> BTreeMap<String, ParamSpec> {
        let date = |default: Option<&str>| ParamSpec { kind: ParamType::Date, default: default.map(str::to_owned) };
        [("from".to_owned(), date(None)), ("to".to_owned(), date(Some(":from")))].into()
    }

    #[test]
    fn a_default_may_be_another_parameter() {
        let given = [("from".to_owned(), "2013-11-05".to_owned())].into();
        let values = resolve_params(&specs(), &given).unwrap();
        assert_eq!(values["to"], "2013-11-05");
    }

    #[test]
    fn what_is_not_a_date_is_refused() {
        for bad in ["2013-13-05", "2013-1-5", "yesterday", ""] {
            let given = [("from".to_owned(), bad.to_owned())].into();
            let message = resolve_params(&specs(), &given).unwrap_err().to_string();
            assert_eq!(message, format!("parameter \"from\" must be a date, e.g. 2013-11-05; got {bad:?}"));
        }
    }

    #[test]
    fn an_unknown_parameter_gets_a_suggestion() {
        let given = [("form".to_owned(), "2013-11-05".to_owned())].into();
        let message = resolve_params(&specs(), &given).unwrap_err().to_string();
        assert!(message.ends_with("did you mean \"from\"?"), "{message}");
    }

    #[test]
    fn literals_replace_names_outside_quotes() {
        let values: ParamValues =
            [("from".to_owned(), "2013-11-05".to_owned()), ("to".to_owned(), "2013-11-06".to_owned())].into();
        let bound = bind("ds between :from and :to and x::date <> ':from'", &specs(), &values).unwrap();
        assert_eq!(bound, "ds between date '2013-11-05' and date '2013-11-06' and x::date <> ':from'");
    }
}
