//! What a fault of reading a request is called to people: without the names of this program's types,
//! and without the client's values, which may be personal.

/// A fault in plain words, and the field it is about if the text says so.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault<'a> {
    /// The name of a field that is missing or given twice.
    pub field: Option<&'a str>,
    /// What is wrong.
    pub detail: String,
}

/// Reads the text of a fault as serde words it.
pub fn of(text: &str) -> Fault<'_> {
    let text = text.split(" at line ").next().unwrap_or_default();
    let named = |prefix: &str| text.strip_prefix(prefix)?.strip_prefix('`')?.split('`').next();
    if let Some(field) = named("missing field ") {
        return Fault { field: Some(field), detail: "is missing".to_owned() };
    }
    if let Some(field) = named("duplicate field ") {
        return Fault { field: Some(field), detail: "is given twice".to_owned() };
    }
    let detail = if text.starts_with("unknown field") {
        "there is no such field".to_owned()
    } else if text.starts_with("unknown variant") || text.starts_with("invalid ") {
        text.rsplit_once(", expected ").map_or_else(not_valid, |(_, what)| expected(what))
    } else if text.starts_with("an id is ") {
        text.to_owned()
    } else {
        not_valid()
    };
    Fault { field: None, detail }
}

fn not_valid() -> String {
    "not a valid value".to_owned()
}

fn expected(what: &str) -> String {
    let plain = match what {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "a borrowed string" | "a string" | "string" => "a string",
        "a boolean" => "true or false",
        "a map" => "an object",
        _ if what.starts_with("struct ") || what.starts_with("internally tagged") => "an object",
        // Whatever else names a type of this program.
        _ if what.contains("::") || what.starts_with("enum ") || what.starts_with("tuple ") => {
            return not_valid();
        }
        other => other,
    };
    format!("expected {plain}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_types_nor_values_are_named() {
        for (text, detail) in [
            ("invalid type: string \"secret\", expected struct NewBooking", "expected an object"),
            (
                "invalid value: integer `70000`, expected u16",
                "expected a whole number from 0 to 65535",
            ),
            ("invalid type: map, expected a sequence at line 1 column 2", "expected a list"),
            ("unknown variant `secret`, expected `a` or `b`", "expected `a` or `b`"),
            ("unknown field `secret`, expected `a`", "there is no such field"),
            ("failed to parse \"secret\" as a timestamp", "not a valid value"),
            ("invalid digit found in string", "not a valid value"),
        ] {
            assert_eq!(of(text), Fault { field: None, detail: detail.to_owned() }, "{text}");
        }
    }

    #[test]
    fn a_field_that_is_missing_or_given_twice_is_named() {
        let missing = Fault { field: Some("slot_id"), detail: "is missing".to_owned() };
        assert_eq!(of("missing field `slot_id` at line 1 column 2"), missing);
        assert_eq!(of("duplicate field `slot_id`").field, Some("slot_id"));
    }
}
