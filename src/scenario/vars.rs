//! `${name}` in the texts of the steps. Knows no step.

use std::collections::BTreeMap;

use crate::model::command::nearest;

/// What names stand for.
pub type Vars = BTreeMap<String, String>;

/// A text grown by variables may not be longer than this.
const LONGEST: usize = 64 * 1024;

/// What is said of a value that names another.
pub const NESTED: &str = "a variable is not expanded inside another one: write its value out";

/// Whether a value names another variable.
pub fn is_nested(value: &str) -> bool {
    value.match_indices("${").any(|(at, _)| !value[..at].ends_with('$'))
}

/// The text with every `${name}` replaced; `$${` stays as `${`. The error is the name that stands for nothing, and what is to
/// be said of it.
pub fn expand(text: &str, vars: &Vars) -> Result<String, (String, String)> {
    if !text.contains("${") {
        return Ok(text.to_owned());
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            return Err(("${".to_owned(), "a variable is written ${name}; the } lacks".to_owned()));
        };
        let name = &rest[at + 2..at + end];
        let Some(value) = vars.get(name) else { return Err((name.to_owned(), unknown(name, vars))) };
        out.push_str(value);
        if out.len() > LONGEST {
            return Err((name.to_owned(), "the text is too long with its variables".to_owned()));
        }
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn unknown(name: &str, vars: &Vars) -> String {
    let short: String = name.chars().take(30).collect();
    let names: Vec<&str> = vars.keys().map(String::as_str).collect();
    match nearest(name, names.iter().copied()) {
        Some(near) => format!("there is no variable `{short}`; did you mean `{near}`?"),
        None if names.is_empty() => format!("there is no variable `{short}`; [vars] is where they are given"),
        None => format!("there is no variable `{short}`; there are {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_stand_for_their_values() {
        let vars = Vars::from([("n".to_owned(), "3".to_owned()), ("node".to_owned(), "s1".to_owned())]);
        assert_eq!(expand("freeze ${node} ${n}", &vars).as_deref(), Ok("freeze s1 3"));
        assert_eq!(expand("DO $$ $${n} $$", &vars).as_deref(), Ok("DO $$ ${n} $$"));
        assert_eq!(expand("plain $1", &vars).as_deref(), Ok("plain $1"));
        assert!(expand("${nod}", &vars).unwrap_err().1.contains("did you mean `node`"));
        assert!(expand("${node", &vars).is_err());
    }
}
