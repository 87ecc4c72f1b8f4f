//! Documents for people: one element or member a line. Nothing is changed but white space, and no order.

/// XML with an element a line; one that holds only text stays on its line. What is no XML stays as it is.
pub(super) fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut rest) = (0_usize, text.trim());
    // Whether the last thing was an opening tag, or text after one: then the closing tag stays on its line.
    let mut is_open = false;
    while let Some(start) = rest.find('<') {
        let words = &rest[..start];
        if !words.trim().is_empty() {
            out.push_str(words);
        }
        let Some(length) = rest[start..].find('>') else { break };
        let tag = &rest[start..=start + length];
        rest = &rest[start + length + 1..];
        let is_closing = tag.starts_with("</");
        if is_closing {
            depth = depth.saturating_sub(1);
        }
        if !(is_closing && is_open || out.is_empty()) {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", depth));
        }
        out.push_str(tag);
        is_open = !is_closing && !tag.ends_with("/>") && !tag.starts_with("<?");
        if is_open {
            depth += 1;
        }
    }
    out.push_str(rest);
    out
}

/// JSON with a member a line. What is no JSON stays nearly as it is.
pub(super) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    let mut letters = text.trim().chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(letter) = letters.next() {
        if is_text {
            out.push(letter);
            match letter {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '"' => is_text = false,
                _ => {}
            }
            continue;
        }
        match letter {
            '"' => {
                is_text = true;
                out.push(letter);
            }
            '{' | '[' => {
                out.push(letter);
                while letters.next_if(|next| next.is_whitespace()).is_some() {}
                if let Some(end) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(letter);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ if letter.is_whitespace() => {}
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_get_lines_and_keep_their_content() {
        assert_eq!(
            xml("<?xml version=\"1.0\"?><vm id=\"1\"><name>a b</name><os/><l><x>1</x></l></vm>"),
            "<?xml version=\"1.0\"?>\n<vm id=\"1\">\n  <name>a b</name>\n  <os/>\n  <l>\n    <x>1</x>\n  </l>\n</vm>"
        );
        assert_eq!(xml("no xml"), "no xml");
        assert_eq!(
            json("{\"a\": \"x, {y\\\"}\",\"b\":[],\"c\":[1,2]}"),
            "{\n  \"a\": \"x, {y\\\"}\",\n  \"b\": [],\n  \"c\": [\n    1,\n    2\n  ]\n}"
        );
    }
}
