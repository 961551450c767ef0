//! Quoting for the four small languages PostgreSQL is told things in: SQL, configuration files, connection strings and
//! passfiles. Pure text; knows no connection.

/// An SQL identifier in double quotes (manual 4.1.1).
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An SQL string literal, for servers with `standard_conforming_strings` on, the default (manual 4.1.2.1). A text with a
/// backslash is written as an escape string, which reads the same whatever that setting is.
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}

/// A value for a configuration file, in single quotes; backslashes are escapes there too (manual 19.1.2; guc-file.l).
pub fn conf_value(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// A value of a `key=value` connection string (manual 34.1.1.1): always quoted, `'` and `\` escaped by a backslash.
pub fn conninfo_value(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A field of a passfile (manual 34.16): `:` and `\` escaped by a backslash.
pub fn passfile_field(value: &str) -> String {
    value.replace('\\', "\\\\").replace(':', "\\:")
}

/// Whether `name` has the shape of a setting's name, so that it can stand unquoted in SQL and in files:
/// `work_mem`, `auto_explain.log_min_duration`.
pub fn is_setting_name(name: &str) -> bool {
    let part = |p: &str| {
        p.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    name.len() <= 63 && name.split('.').count() <= 2 && name.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled_or_escaped_as_each_language_wants() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
        assert_eq!(conf_value(r"it's a\b"), r"'it''s a\\b'");
        assert_eq!(conninfo_value(r"it's a\b"), r"'it\'s a\\b'");
        assert_eq!(passfile_field(r"a:b\c"), r"a\:b\\c");
    }

    #[test]
    fn names_of_settings() {
        for good in ["work_mem", "DateStyle", "pg_stat_statements.max", "_x"] {
            assert!(is_setting_name(good), "{good}");
        }
        for bad in ["", "a b", "a;b", "a.b.c", "1a", "a=", ".a", "ä"] {
            assert!(!is_setting_name(bad), "{bad}");
        }
    }
}
