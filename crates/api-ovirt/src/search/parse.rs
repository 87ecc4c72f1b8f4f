//! From a search text to a [`Search`].

use super::{CONDITIONS_MAX, DEPTH_MAX, Expr, Field, From, Kind, Search, TEXT_MAX, instant};
use crate::fault::Refused;
use stillpoint_engine::view::{Op, Value};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Operator(Op),
    Open,
    Close,
}

/// Reads a search text against the fields that a collection has.
pub(super) fn read(text: &str, fields: &'static [Field]) -> Result<Search, Refused> {
    if text.len() > TEXT_MAX {
        return Err(bad(format!("longer than {TEXT_MAX} bytes")));
    }
    let mut parser = Parser {
        tokens: tokens(text)?,
        place: 0,
        depth: 0,
        conditions: 0,
        fields,
    };
    let mut search = Search::default();
    if !parser.tokens.is_empty() && !parser.at_tail() {
        search.what = parser.any()?;
    }
    parser.tail(&mut search)?;
    Ok(search)
}

fn tokens(text: &str) -> Result<Vec<Token>, Refused> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        let token = match c {
            c if c.is_whitespace() => {
                chars.next();
                continue;
            }
            '"' => {
                chars.next();
                let mut value = String::new();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some(c) => value.push(c),
                        None => return Err(bad("a quote is not closed")),
                    }
                }
                Token::Quoted(value)
            }
            '=' | '<' | '>' | '!' => {
                chars.next();
                let with_equals = c != '=' && chars.next_if_eq(&'=').is_some();
                Token::Operator(match (c, with_equals) {
                    ('=', _) => Op::Equal,
                    ('!', true) => Op::Unequal,
                    ('<', true) => Op::AtMost,
                    ('<', false) => Op::Less,
                    ('>', true) => Op::AtLeast,
                    ('>', false) => Op::Greater,
                    _ => return Err(bad("'!' without '='")),
                })
            }
            '(' => {
                chars.next();
                Token::Open
            }
            ')' => {
                chars.next();
                Token::Close
            }
            _ => {
                let mut word = String::new();
                while let Some(c) = chars.next_if(|c| !c.is_whitespace() && !"=<>!()\"".contains(*c)) {
                    word.push(c);
                }
                Token::Word(word)
            }
        };
        tokens.push(token);
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    place: usize,
    depth: usize,
    conditions: usize,
    fields: &'static [Field],
}

impl Parser {
    /// The next token as a keyword: a bare word, lower case, that no operator follows.
    fn keyword(&self) -> Option<String> {
        let Some(Token::Word(word)) = self.tokens.get(self.place) else {
            return None;
        };
        (!matches!(self.tokens.get(self.place + 1), Some(Token::Operator(_)))).then(|| word.to_ascii_lowercase())
    }

    fn at_tail(&self) -> bool {
        matches!(self.keyword().as_deref(), Some("sortby" | "page"))
    }

    fn any(&mut self) -> Result<Expr, Refused> {
        let mut members = vec![self.all()?];
        while self.keyword().as_deref() == Some("or") {
            self.place += 1;
            members.push(self.all()?);
        }
        Ok(only(members, Expr::Any))
    }

    fn all(&mut self) -> Result<Expr, Refused> {
        let mut members = vec![self.part()?];
        loop {
            match self.keyword().as_deref() {
                Some("and") => self.place += 1,
                Some("or") => break,
                // Two conditions side by side: both must hold.
                _ => match self.tokens.get(self.place) {
                    None | Some(Token::Close) => break,
                    Some(_) if self.at_tail() => break,
                    Some(_) => {}
                },
            }
            members.push(self.part()?);
        }
        Ok(only(members, Expr::All))
    }

    fn part(&mut self) -> Result<Expr, Refused> {
        if self.at_tail() {
            return Err(bad("it ends where a condition is expected"));
        }
        if self.tokens.get(self.place) != Some(&Token::Open) {
            self.conditions += 1;
            if self.conditions > CONDITIONS_MAX {
                return Err(bad(format!("more than {CONDITIONS_MAX} conditions")));
            }
            return self.condition();
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(bad(format!("brackets nested deeper than {DEPTH_MAX}")));
        }
        self.place += 1;
        let inner = self.any()?;
        if self.tokens.get(self.place) != Some(&Token::Close) {
            return Err(bad("a bracket is not closed"));
        }
        self.place += 1;
        self.depth -= 1;
        Ok(inner)
    }

    fn condition(&mut self) -> Result<Expr, Refused> {
        let token = self.tokens.get(self.place).cloned();
        self.place += 1;
        let name = match token {
            Some(Token::Word(word)) => word,
            Some(Token::Quoted(pattern)) => return Ok(self.anywhere(&pattern)),
            Some(Token::Operator(_)) => return Err(bad("an operator without a field before it")),
            Some(Token::Open | Token::Close) => return Err(bad("a bracket where a condition is expected")),
            None => return Err(bad("it ends where a condition is expected")),
        };
        let Some(Token::Operator(op)) = self.tokens.get(self.place) else {
            return Ok(self.anywhere(&name));
        };
        let op = *op;
        self.place += 1;
        let field = self.field(&name)?;
        let value = match self.tokens.get(self.place) {
            Some(Token::Word(value) | Token::Quoted(value)) => value.clone(),
            _ => return Err(bad(format!("field '{}' without a value", field.name()))),
        };
        self.place += 1;
        meaning(field, op, &value)
    }

    fn field(&self, name: &str) -> Result<&'static Field, Refused> {
        let wanted = name.to_lowercase();
        let found = self.fields.iter().find(|field| field.names.contains(&wanted.as_str()));
        found.ok_or_else(|| bad(format!("field '{}' is not supported here", cut(name))))
    }

    /// A value that may be anywhere in a text of the item.
    fn anywhere(&self, text: &str) -> Expr {
        let value = Value::Text(format!("*{text}*"));
        let free = self.fields.iter().filter(|field| field.free);
        let members = free.map(|field| Expr::Is {
            field,
            op: Op::Equal,
            value: value.clone(),
        });
        Expr::Any(members.collect())
    }

    fn tail(&mut self, search: &mut Search) -> Result<(), Refused> {
        if self.keyword().as_deref() == Some("sortby") {
            self.place += 1;
            let name = self.keyword().ok_or_else(|| bad("sortby without a field"))?;
            let field = self.field(&name)?;
            if matches!(field.from, From::Related(_)) {
                return Err(bad(format!(
                    "sortby '{}': an item may have many of these",
                    field.name()
                )));
            }
            self.place += 1;
            let direction = self.keyword();
            let descending = direction.as_deref() == Some("desc");
            if descending || direction.as_deref() == Some("asc") {
                self.place += 1;
            }
            search.sort = Some((field, descending));
        }
        if self.keyword().as_deref() == Some("page") {
            self.place += 1;
            search.page = Some(1);
            if let Some(Token::Word(number)) = self.tokens.get(self.place) {
                let number: u64 = number
                    .parse()
                    .map_err(|_not_a_number: std::num::ParseIntError| bad("page without a number"))?;
                search.page = Some(number.max(1));
                self.place += 1;
            }
        }
        match self.tokens.get(self.place) {
            None => Ok(()),
            Some(_) => Err(bad("something follows its end")),
        }
    }
}

/// The only member, or the members together.
fn only(mut members: Vec<Expr>, together: fn(Vec<Expr>) -> Expr) -> Expr {
    match members.pop() {
        Some(last) if members.is_empty() => last,
        last => {
            members.extend(last);
            together(members)
        }
    }
}

/// A condition, with its value read as the field's kind demands.
fn meaning(field: &'static Field, op: Op, text: &str) -> Result<Expr, Refused> {
    let is = |op, value| Expr::Is { field, op, value };
    let wrong = |what: &str| {
        bad(format!(
            "'{}' is not {what}, as field '{}' needs it",
            cut(text),
            field.name()
        ))
    };
    Ok(match field.kind {
        Kind::Text | Kind::Exact => is(op, Value::Text(text.to_owned())),
        Kind::Word => is(op, Value::Text(text.to_lowercase())),
        Kind::Number => is(
            op,
            Value::Number(
                text.parse()
                    .map_err(|_bad: std::num::ParseIntError| wrong("a whole number"))?,
            ),
        ),
        Kind::Index => match text.parse() {
            Ok(number) => is(op, Value::Number(number)),
            Err(_) if op == Op::Unequal => Expr::All(Vec::new()),
            Err(_) => Expr::Any(Vec::new()),
        },
        Kind::Severity => {
            let rank = ["normal", "warning", "error", "alert"]
                .iter()
                .zip(0..)
                .find(|(word, _)| text.eq_ignore_ascii_case(word));
            is(op, Value::Number(rank.ok_or_else(|| wrong("a severity"))?.1))
        }
        Kind::Flag => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => is(op, Value::Number(1)),
            "false" | "no" | "0" => is(op, Value::Number(0)),
            _ => return Err(wrong("true or false")),
        },
        Kind::Instant => {
            let (from, to) =
                instant::read(text).ok_or_else(|| wrong("a date such as 2026-01-31 or 2026-01-31T12:00:00"))?;
            let (from, to) = (Value::Number(from), Value::Number(to));
            match op {
                Op::Equal => Expr::All(vec![is(Op::AtLeast, from), is(Op::Less, to)]),
                Op::Unequal => Expr::Any(vec![is(Op::Less, from), is(Op::AtLeast, to)]),
                Op::Less => is(Op::Less, from),
                Op::AtMost => is(Op::Less, to),
                Op::Greater => is(Op::AtLeast, to),
                Op::AtLeast => is(Op::AtLeast, from),
            }
        }
    })
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

fn bad(what: impl std::fmt::Display) -> Refused {
    Refused::bad_parameter(format!("The search is not understood: {what}"))
}
