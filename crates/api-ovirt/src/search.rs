//! The part of the search language that clients need to find things by name or id.
//!
//! `criteria [sortby name [asc]] [page N]`, criteria = conditions joined by `and` and `or` (`and` binds tighter),
//! condition = `field = value`, `field != value` or a bare value that may be anywhere in a text. A value is a word or
//! quoted, `*` stands for any run of characters. What is not understood is refused by name, never ignored: a search that
//! silently finds too much lets a tool delete the wrong thing.

use crate::fault::Refused;

/// Longest search text, in bytes.
const TEXT_MAX: usize = 4096;
/// Items of a page where the client names no number.
pub(crate) const PAGE_ITEMS: usize = 100;
/// Most conditions in a search.
const CONDITIONS_MAX: usize = 64;

/// A search, understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Search {
    /// Alternatives, each a list of conditions that must all hold; empty: everything.
    any: Vec<Vec<Condition>>,
    /// Page number, from 1.
    pub(crate) page: Option<u64>,
    /// Whether texts are compared with case.
    pub(crate) case_sensitive: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    /// `None`: any text of the item.
    field: Option<&'static str>,
    /// Must not match.
    not: bool,
    pattern: String,
}

/// A thing that a search can look at.
pub(crate) trait Searchable {
    /// The value of a field that the noun's list of fields names; `None`: the item has no such value.
    fn field(&self, name: &str) -> Option<String>;
    /// The fields that a bare value is looked for in.
    const TEXTS: &'static [&'static str] = &["name", "description", "comment"];
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Operator(&'static str),
    Bracket,
}

impl Search {
    /// Reads a search text against the fields that the collection has.
    ///
    /// # Errors
    /// 400 that names what was not understood.
    pub(crate) fn parse(
        text: Option<&str>,
        case_sensitive: bool,
        fields: &'static [&'static str],
    ) -> Result<Self, Refused> {
        let text = text.unwrap_or_default();
        if text.len() > TEXT_MAX {
            return Err(bad(format!("longer than {TEXT_MAX} bytes")));
        }
        let mut parser = Parser {
            tokens: tokens(text)?,
            place: 0,
            fields,
        };
        let mut search = parser.criteria()?;
        search.case_sensitive = case_sensitive;
        Ok(search)
    }

    /// How many of `len` items at hand to skip, and how many to take, for the page that is asked for.
    pub(crate) fn window(&self, max: Option<usize>, len: usize) -> (usize, usize) {
        let Some(page) = self.page else {
            return (0, max.unwrap_or(len));
        };
        let size = max.unwrap_or(PAGE_ITEMS);
        let skip = usize::try_from(page - 1).unwrap_or(usize::MAX).saturating_mul(size);
        (skip, size)
    }

    /// Whether an item is found.
    pub(crate) fn finds(&self, item: &impl Searchable) -> bool {
        self.any.is_empty() || self.any.iter().any(|all| all.iter().all(|c| self.holds(c, item)))
    }

    /// The value of the one condition `field = value`, if the search is nothing but that: the core can look it up.
    pub(crate) fn only(&self, field: &str) -> Option<&str> {
        match self.any.as_slice() {
            [all] => match all.as_slice() {
                [condition] if condition.field == Some(field) && !condition.not => Some(&condition.pattern),
                _ => None,
            },
            _ => None,
        }
    }

    /// As [`Self::only`], where the value is not a pattern.
    pub(crate) fn exactly(&self, field: &str) -> Option<&str> {
        self.only(field).filter(|value| !value.contains('*'))
    }

    fn holds(&self, condition: &Condition, item: &impl Searchable) -> bool {
        match condition.field {
            Some(field) => {
                let found = item
                    .field(field)
                    .is_some_and(|value| self.matches(&condition.pattern, &value));
                found != condition.not
            }
            None => {
                let anywhere = format!("*{}*", condition.pattern);
                texts(item).any(|value| self.matches(&anywhere, &value))
            }
        }
    }

    fn matches(&self, pattern: &str, text: &str) -> bool {
        if self.case_sensitive {
            glob(pattern, text)
        } else {
            glob(&pattern.to_lowercase(), &text.to_lowercase())
        }
    }
}

fn texts<S: Searchable>(item: &S) -> impl Iterator<Item = String> {
    S::TEXTS.iter().filter_map(|field| item.field(field))
}

/// Whether a pattern with `*` covers the whole text; linear in practice, quadratic at worst, never exponential.
fn glob(pattern: &str, text: &str) -> bool {
    let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut i, mut j, mut star) = (0, 0, None);
    while j < t.len() {
        if p.get(i) == Some(&'*') {
            star = Some((i, j));
            i += 1;
        } else if p.get(i) == t.get(j) {
            i += 1;
            j += 1;
        } else if let Some((at, from)) = star {
            i = at + 1;
            j = from + 1;
            star = Some((at, from + 1));
        } else {
            return false;
        }
    }
    p.iter().skip(i).all(|c| *c == '*')
}

fn tokens(text: &str) -> Result<Vec<Token>, Refused> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        match c {
            c if c.is_whitespace() => {
                chars.next();
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
                tokens.push(Token::Quoted(value));
            }
            '=' | '<' | '>' | '!' => {
                chars.next();
                let with_equals = c != '=' && chars.next_if_eq(&'=').is_some();
                tokens.push(Token::Operator(match (c, with_equals) {
                    ('=', _) => "=",
                    ('!', true) => "!=",
                    ('<', true) => "<=",
                    ('<', false) => "<",
                    ('>', true) => ">=",
                    ('>', false) => ">",
                    _ => return Err(bad("'!' without '='")),
                }));
            }
            '(' | ')' => {
                chars.next();
                tokens.push(Token::Bracket);
            }
            _ => {
                let mut word = String::new();
                while let Some(c) = chars.next_if(|c| !c.is_whitespace() && !"=<>!()\"".contains(*c)) {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    place: usize,
    fields: &'static [&'static str],
}

impl Parser {
    fn criteria(&mut self) -> Result<Search, Refused> {
        let mut search = Search::default();
        let mut all = Vec::new();
        let mut count = 0;
        while self.place < self.tokens.len() && !self.at_tail() {
            all.push(self.condition()?);
            count += 1;
            if count > CONDITIONS_MAX {
                return Err(bad(format!("more than {CONDITIONS_MAX} conditions")));
            }
            match self.keyword().as_deref() {
                Some("and") => self.place += 1,
                Some("or") => {
                    self.place += 1;
                    search.any.push(std::mem::take(&mut all));
                }
                // Two conditions side by side: oVirt reads them as alternatives nowhere; all must hold.
                _ => continue,
            }
            if self.place == self.tokens.len() || self.at_tail() {
                return Err(bad("it ends where a condition is expected"));
            }
        }
        if !all.is_empty() {
            search.any.push(all);
        }
        self.tail(&mut search)?;
        Ok(search)
    }

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

    fn condition(&mut self) -> Result<Condition, Refused> {
        let token = self.tokens.get(self.place).cloned();
        self.place += 1;
        let name = match token {
            Some(Token::Word(word)) => word,
            Some(Token::Quoted(pattern)) => {
                return Ok(Condition {
                    field: None,
                    not: false,
                    pattern,
                });
            }
            Some(Token::Operator(operator)) => return Err(bad(format!("'{operator}' without a field before it"))),
            Some(Token::Bracket) => return Err(bad("brackets are not supported by this version")),
            None => return Err(bad("it ends where a condition is expected")),
        };
        let Some(Token::Operator(operator)) = self.tokens.get(self.place) else {
            return Ok(Condition {
                field: None,
                not: false,
                pattern: name,
            });
        };
        let operator = *operator;
        self.place += 1;
        let field = name.to_ascii_lowercase();
        let Some(field) = self.fields.iter().find(|f| **f == field) else {
            let shown: String = name.chars().take(64).collect();
            return Err(bad(format!("field '{shown}' is not supported here")));
        };
        let not = match operator {
            "=" => false,
            "!=" => true,
            other => return Err(bad(format!("operator '{other}' is not supported for field '{field}'"))),
        };
        let pattern = match self.tokens.get(self.place) {
            Some(Token::Word(value) | Token::Quoted(value)) => value.clone(),
            _ => return Err(bad(format!("field '{field}' without a value"))),
        };
        self.place += 1;
        Ok(Condition {
            field: Some(field),
            not,
            pattern,
        })
    }

    fn tail(&mut self, search: &mut Search) -> Result<(), Refused> {
        if self.keyword().as_deref() == Some("sortby") {
            self.place += 1;
            let field = self.keyword().unwrap_or_default();
            // Lists are in the order of names already; another order needs the whole search language.
            if field != "name" {
                return Err(bad(format!("sortby '{}' is not supported here", cut(&field))));
            }
            self.place += 1;
            match self.keyword().as_deref() {
                Some("asc") => self.place += 1,
                Some("desc") => return Err(bad("sortby in descending order is not supported by this version")),
                _ => {}
            }
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

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

fn bad(what: impl std::fmt::Display) -> Refused {
    Refused::bad_parameter(format!("The search is not understood: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(&'static str, &'static str);

    impl Searchable for Thing {
        fn field(&self, name: &str) -> Option<String> {
            match name {
                "name" => Some(self.0.into()),
                "id" => Some(self.1.into()),
                _ => None,
            }
        }
    }

    const FIELDS: &[&str] = &["name", "id"];

    fn found(text: &str, case_sensitive: bool) -> Vec<&'static str> {
        let search = Search::parse(Some(text), case_sensitive, FIELDS).unwrap();
        [
            Thing("db1", "1"),
            Thing("db2", "2"),
            Thing("my vm", "3"),
            Thing("web", "4"),
        ]
        .into_iter()
        .filter(|thing| search.finds(thing))
        .map(|thing| thing.0)
        .collect()
    }

    #[test]
    fn things_are_found_by_name_and_id() {
        assert_eq!(found("", false), ["db1", "db2", "my vm", "web"]);
        assert_eq!(found("name=db1", false), ["db1"]);
        assert_eq!(found("NAME = DB1", false), ["db1"]);
        assert_eq!(found("name=DB1", true), Vec::<&str>::new());
        assert_eq!(found("name=db*", false), ["db1", "db2"]);
        assert_eq!(found("name=\"my vm\"", false), ["my vm"]);
        assert_eq!(found("name=db1 or name=db2", false), ["db1", "db2"]);
        assert_eq!(found("name=db* and id=2", false), ["db2"]);
        assert_eq!(found("name=db* and name!=db1 OR id=4", false), ["db2", "web"]);
        assert_eq!(found("eb", false), ["web"]);
        assert_eq!(found("name=or or name=page", false), Vec::<&str>::new());
        assert_eq!(found("sortby name page 2", false).len(), 4);
    }

    #[test]
    fn a_page_is_part_of_the_search() {
        let page = |text| Search::parse(Some(text), false, FIELDS).unwrap().page;
        assert_eq!(page("page 2"), Some(2));
        assert_eq!(page("name=a page 3"), Some(3));
        assert_eq!(page("page"), Some(1));
        assert_eq!(page("name=page"), None);
        assert_eq!(
            Search::parse(Some("id=7"), false, FIELDS).unwrap().only("id"),
            Some("7")
        );
        assert_eq!(Search::parse(Some("id!=7"), false, FIELDS).unwrap().only("id"), None);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let text = |text: &str| {
            Search::parse(Some(text), false, FIELDS)
                .unwrap_err()
                .detail()
                .to_owned()
        };
        assert!(text("status=up").contains("'status'"));
        assert!(text("name>a").contains("'>'"));
        assert!(text("sortby memory").contains("'memory'"));
        for bad in [
            "==",
            "name=",
            "name=\"x",
            "(name=a)",
            "name=a and",
            "name=a or page 2",
            "!",
            "page x",
            "name=a page 1 2",
            "page 99999999999999999999999",
            "name==a",
            "sortby name desc",
        ] {
            assert!(Search::parse(Some(bad), false, FIELDS).is_err(), "{bad}");
        }
    }

    #[test]
    fn hostile_searches_are_bounded() {
        assert!(Search::parse(Some(&"a ".repeat(100_000)), false, FIELDS).is_err());
        assert!(Search::parse(Some(&"a ".repeat(2000)), false, FIELDS).is_err());
        assert!(Search::parse(Some(&"(".repeat(4000)), false, FIELDS).is_err());
        let stars = format!("name={}", "*a".repeat(1000));
        let search = Search::parse(Some(&stars), false, FIELDS).unwrap();
        assert!(!search.finds(&Thing("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "1")));
        for text in [
            "\u{0}",
            "\u{202e}",
            "name=\u{1f512}",
            "'; drop table vms; --",
            "name=%",
            "{query}",
        ] {
            drop(Search::parse(Some(text), false, FIELDS));
        }
    }
}
