//! The parameter `metadata` of lists: an object of texts, as JSON has it or as Python prints it (what its clients send).

use stillpoint_engine::command::volume::Metadata;

/// Reads it; `None`: it is neither.
pub(super) fn read(text: &str) -> Option<Metadata> {
    let mut rest = text.trim_start().strip_prefix('{')?.trim_start();
    let mut pairs = Metadata::new();
    loop {
        if let Some(end) = rest.strip_prefix('}') {
            return end.trim().is_empty().then_some(pairs);
        }
        let (key, after) = quoted(rest)?;
        let (value, after) = quoted(after.trim_start().strip_prefix(':')?.trim_start())?;
        pairs.insert(key, value);
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if after.starts_with('}') => after,
            None => return None,
        };
    }
}

/// A text in either kind of quotes (Python 2's `u` before it is passed over), and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('u').unwrap_or(text);
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut held = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                let (_, escaped) = chars.next()?;
                held.push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    '\\' | '\'' | '"' | '/' => escaped,
                    'x' | 'u' | 'U' => {
                        let digits = match escaped {
                            'x' => 2,
                            'u' => 4,
                            _ => 8,
                        };
                        let hex: String = chars.by_ref().take(digits).map(|(_, digit)| digit).collect();
                        let code = (hex.len() == digits).then(|| u32::from_str_radix(&hex, 16).ok())??;
                        char::from_u32(code)?
                    }
                    _ => return None,
                });
            }
            _ if c == quote => return Some((held, text.get(at + 1..)?)),
            _ => held.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_and_json_are_read_and_nothing_else() {
        let of = |pairs: &[(&str, &str)]| {
            Some(
                pairs
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect::<Metadata>(),
            )
        };
        assert_eq!(read("{}"), of(&[]));
        assert_eq!(read("{'a': 'b'}"), of(&[("a", "b")]));
        assert_eq!(read(r#"{"a":"b", "c": "d"}"#), of(&[("a", "b"), ("c", "d")]));
        assert_eq!(
            read(r#"{u'it\'s': "say \"x\" \u00fc"}"#),
            of(&[("it's", "say \"x\" \u{fc}")])
        );
        for bad in [
            "",
            "a",
            "{'a'}",
            "{'a':1}",
            "{'a':'b'",
            "{'a':'b'} x",
            r"{'a':'\q'}",
            "{'a' 'b'}",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
