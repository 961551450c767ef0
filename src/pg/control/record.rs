//! Reading a row as PostgreSQL writes it into text, `(s1,t,,"a ""b""")` (manual 8.16.6): the cheapest way to get several rows
//! of several columns in one. Knows no column's meaning.

use std::str::FromStr;

use super::ControlError;
use crate::model::safe_text;

/// The fields of one row, taken in order.
#[derive(Debug)]
pub(super) struct Fields {
    fields: std::vec::IntoIter<Option<String>>,
}

impl Fields {
    /// Takes a row's text apart.
    pub(super) fn of(text: &str) -> Result<Self, ControlError> {
        split(text).map(|fields| Self { fields: fields.into_iter() }).ok_or_else(|| bad(text))
    }

    /// The next field as text; None is NULL.
    pub(super) fn text(&mut self) -> Result<Option<String>, ControlError> {
        self.fields.next().ok_or_else(|| bad("too few fields"))
    }

    /// The next field as text that is safe to show; NULL is empty.
    pub(super) fn shown(&mut self) -> Result<String, ControlError> {
        Ok(safe_text(&self.text()?.unwrap_or_default()))
    }

    /// The next field, read; None is NULL.
    pub(super) fn read<T: FromStr>(&mut self) -> Result<Option<T>, ControlError> {
        self.text()?.map(|text| text.parse().map_err(|_| bad(&text))).transpose()
    }

    /// The next field, which is never NULL.
    pub(super) fn must<T: FromStr>(&mut self) -> Result<T, ControlError> {
        self.read()?.ok_or_else(|| bad("NULL"))
    }
}

fn bad(text: &str) -> ControlError {
    ControlError::Shape(format!("a row of a look: {}", safe_text(text)))
}

/// A quoted field has its quotes and backslashes doubled; an empty one without quotes is NULL.
fn split(text: &str) -> Option<Vec<Option<String>>> {
    let inside = text.strip_prefix('(')?.strip_suffix(')')?;
    let (mut fields, mut field, mut quoted) = (Vec::new(), None::<String>, false);
    let mut letters = inside.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => field.get_or_insert_default().extend(letters.next()),
            '\\' if quoted => field.get_or_insert_default().push(letters.next()?),
            '"' => {
                quoted = !quoted;
                field.get_or_insert_default();
            }
            ',' if !quoted => fields.push(field.take()),
            other => field.get_or_insert_default().push(other),
        }
    }
    fields.push(field);
    (!quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As `record_out` does it.
    fn written(fields: &[Option<String>]) -> String {
        let quote = |text: &String| {
            let plain = !text.is_empty() && !text.contains(|c: char| "\"\\(),".contains(c) || c.is_whitespace());
            if plain { text.clone() } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\"")) }
        };
        let fields: Vec<String> = fields.iter().map(|f| f.as_ref().map_or_else(String::new, quote)).collect();
        format!("({})", fields.join(","))
    }

    #[test]
    fn fields_are_taken_in_order() {
        let mut row = Fields::of(r#"(s1,7,,"",t,"a ""b\\c""")"#).unwrap();
        assert_eq!(row.must::<String>(), Ok("s1".to_owned()));
        assert_eq!(row.read::<i32>(), Ok(Some(7)));
        assert_eq!((row.text(), row.text()), (Ok(None), Ok(Some(String::new()))));
        assert_eq!((row.shown(), row.shown()), (Ok("t".to_owned()), Ok("a \"b\\c\"".to_owned())));
        assert!(row.text().is_err());
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for text in ["", "(", "(a", "a)", "(\"a)", "(\"\\)"] {
            assert!(Fields::of(text).is_err(), "{text}");
        }
        assert!(
            Fields::of("(x)").unwrap().must::<i32>().is_err() && Fields::of("(x,)").unwrap().read::<i32>().is_err()
        );
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(fields in prop::collection::vec(prop::option::of(".{0,6}"), 1..5)) {
            prop_assert_eq!(split(&written(&fields)), Some(fields));
        }

        #[test]
        fn anything_may_come(text in ".{0,20}") {
            drop(Fields::of(&text));
        }
    }
}
