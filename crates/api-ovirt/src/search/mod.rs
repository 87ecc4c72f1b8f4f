//! The search language: `criteria [sortby field [asc|desc]] [page N]`.
//!
//! Criteria are conditions joined by `and` and `or` (`and` binds tighter) with brackets; a condition is `field op value`
//! with `=`, `!=`, `<`, `<=`, `>`, `>=`, or a bare value that may be anywhere in a text. A value is a word or quoted, and
//! `*` in it is any run of characters. Keywords and fields may be written in either case. What is not understood is
//! refused by name, never ignored: a search that silently finds too much lets a tool delete the wrong thing.
//!
//! A collection's fields are a table ([`Field`]). The core answers searches of what there may be many of, in its store;
//! the few things that are not rows are looked at here ([`Search::finds`]).

mod fields;
mod instant;
mod parse;
#[cfg(test)]
mod tests;

pub(crate) use fields::{DISKS, EVENTS, JOBS, TEMPLATES, VMS};

use crate::fault::Refused;
use stillpoint_engine::view::{Filter, Find, House, Op, Sort, Value};

/// Longest search text, in bytes.
const TEXT_MAX: usize = 4096;
/// Items of a page where the client names no number.
pub(crate) const PAGE_ITEMS: usize = 100;
/// Most conditions in a search.
const CONDITIONS_MAX: usize = 64;
/// Deepest nesting of brackets.
const DEPTH_MAX: usize = 16;

/// A field that a collection can be searched by.
#[derive(Debug)]
pub(crate) struct Field {
    /// As clients call it, lower case; the first is also what [`Searchable::field`] is asked for.
    names: &'static [&'static str],
    kind: Kind,
    from: From,
    /// A bare value is looked for in it.
    free: bool,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Text that people wrote.
    Text,
    /// A word of ours in lower case, or an id: always compared without case.
    Word,
    /// Text that is compared as it is: a correlation id.
    Exact,
    /// A whole number.
    Number,
    /// An id that is a number: what is none is the id of nothing.
    Index,
    /// An instant.
    Instant,
    /// The severity of an event: normal, warning, error, alert, in this order.
    Severity,
    /// `true` or `false`.
    Flag,
}

/// Where a field's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// In the store, by this word.
    Core(&'static str),
    /// The same, of things that belong to the item: no order can be made of it.
    Related(&'static str),
    /// The same for all items.
    Fixed(&'static str),
    /// The cluster's name.
    Cluster,
    /// The data center's name.
    DataCenter,
    /// The host's name, of a VM that runs.
    Host,
    /// With the item itself; see [`Searchable`].
    Item,
}

/// A field of things that are not rows.
pub(crate) const fn own(names: &'static [&'static str]) -> Field {
    Field {
        names,
        kind: Kind::Text,
        from: From::Item,
        free: false,
    }
}

impl Field {
    /// Bare values are looked for in it.
    pub(crate) const fn free(mut self) -> Self {
        self.free = true;
        self
    }

    /// It holds a number.
    pub(crate) const fn number(mut self) -> Self {
        self.kind = Kind::Number;
        self
    }

    /// It holds `0` or `1`.
    pub(crate) const fn flag(mut self) -> Self {
        self.kind = Kind::Flag;
        self
    }

    fn name(&self) -> &'static str {
        self.names[0]
    }
}

/// A thing that is looked at here.
pub(crate) trait Searchable {
    /// The values of a field, by the first of its names: text, a decimal number, `0` or `1`. Of several one is enough.
    fn field(&self, name: &str) -> Vec<String>;
}

/// A search, understood.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    what: Expr,
    sort: Option<(&'static Field, bool)>,
    /// Page number, from 1.
    pub(crate) page: Option<u64>,
    case_sensitive: bool,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            what: Expr::All(Vec::new()),
            sort: None,
            page: None,
            case_sensitive: false,
        }
    }
}

#[derive(Debug, Clone)]
enum Expr {
    All(Vec<Self>),
    Any(Vec<Self>),
    Is {
        field: &'static Field,
        op: Op,
        value: Value,
    },
}

impl Search {
    /// Reads a search text against the fields that the collection has.
    ///
    /// # Errors
    /// 400 that names what was not understood.
    pub(crate) fn parse(text: Option<&str>, case_sensitive: bool, fields: &'static [Field]) -> Result<Self, Refused> {
        let mut search = parse::read(text.unwrap_or_default(), fields)?;
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

    /// What the core is asked for.
    pub(crate) fn filter(&self, house: &House) -> Filter {
        let sort = self.sort.and_then(|(field, descending)| match field.from {
            From::Core(field) => Some(Sort { field, descending }),
            // The same for all: any order will do.
            _ => None,
        });
        Filter {
            find: self.find(&self.what, house),
            sort,
        }
    }

    fn find(&self, expr: &Expr, house: &House) -> Find {
        let all = |members: &[Expr]| members.iter().map(|member| self.find(member, house)).collect();
        match expr {
            Expr::All(members) => Find::All(all(members)),
            Expr::Any(members) => Find::Any(all(members)),
            Expr::Is { field, op, value } => match field.from {
                From::Core(name) | From::Related(name) => Find::Is {
                    field: name,
                    op: *op,
                    value: value.clone(),
                    case_sensitive: self.minds_case(field),
                },
                From::Host => Find::Any(
                    [(true, Some(house.host.1.as_str())), (false, None)]
                        .into_iter()
                        .filter(|(_, host)| self.holds(field, *op, value, *host))
                        .map(|(running, _)| runs(running))
                        .collect(),
                ),
                From::Fixed(_) | From::Cluster | From::DataCenter | From::Item => {
                    let known = match field.from {
                        From::Fixed(text) => Some(text),
                        From::Cluster => Some(house.cluster.1.as_str()),
                        From::DataCenter => Some(house.data_center.1.as_str()),
                        _ => None,
                    };
                    match self.holds(field, *op, value, known) {
                        true => Find::All(Vec::new()),
                        false => Find::Any(Vec::new()),
                    }
                }
            },
        }
    }

    fn minds_case(&self, field: &Field) -> bool {
        match field.kind {
            Kind::Text => self.case_sensitive,
            // The value is in lower case by now, as the words are.
            _ => true,
        }
    }

    /// Whether a thing is found.
    pub(crate) fn finds(&self, item: &impl Searchable) -> bool {
        self.finds_by(&self.what, item)
    }

    fn finds_by(&self, expr: &Expr, item: &impl Searchable) -> bool {
        match expr {
            Expr::All(members) => members.iter().all(|member| self.finds_by(member, item)),
            Expr::Any(members) => members.iter().any(|member| self.finds_by(member, item)),
            Expr::Is { field, op, value } => match field.from {
                From::Fixed(text) => self.holds(field, *op, value, Some(text)),
                _ => {
                    let found = item.field(field.name());
                    let is = |op| found.iter().any(|found| self.holds(field, op, value, Some(found)));
                    if *op == Op::Unequal { !is(Op::Equal) } else { is(*op) }
                }
            },
        }
    }

    /// Puts things into the order that is asked for; without one they stay as they are.
    pub(crate) fn arrange<T>(&self, items: &mut [T], field: impl Fn(&T, &str) -> Vec<String>) {
        let Some((by, descending)) = self.sort else { return };
        let key = |item: &T| {
            let text = field(item, by.name()).into_iter().next().unwrap_or_default();
            let number: i64 = match by.kind {
                Kind::Number | Kind::Flag => text.parse().unwrap_or_default(),
                _ => 0,
            };
            (number, text)
        };
        items.sort_by_cached_key(key);
        if descending {
            items.reverse();
        }
    }

    /// Whether a value passes a condition; what has no value is neither equal nor less nor greater.
    fn holds(&self, field: &Field, op: Op, value: &Value, found: Option<&str>) -> bool {
        let Some(found) = found else { return op == Op::Unequal };
        let order = match value {
            Value::Number(wanted) => match found.parse::<i64>() {
                Ok(found) => found.cmp(wanted),
                Err(_) => return op == Op::Unequal,
            },
            Value::Text(wanted) => {
                let (wanted, found) = match self.minds_case(field) && field.kind != Kind::Word {
                    true => (wanted.clone(), found.to_owned()),
                    false => (wanted.to_lowercase(), found.to_lowercase()),
                };
                match op {
                    Op::Equal => return glob(&wanted, &found),
                    Op::Unequal => return !glob(&wanted, &found),
                    _ => found.cmp(&wanted),
                }
            }
        };
        match op {
            Op::Equal => order.is_eq(),
            Op::Unequal => order.is_ne(),
            Op::Less => order.is_lt(),
            Op::AtMost => order.is_le(),
            Op::Greater => order.is_gt(),
            Op::AtLeast => order.is_ge(),
        }
    }
}

/// What a condition comes to whatever the rows are; `None`: it depends on them.
pub(crate) fn settled(find: &Find) -> Option<bool> {
    let (members, end) = match find {
        Find::All(members) => (members, false),
        Find::Any(members) => (members, true),
        Find::Is { .. } => return None,
    };
    let outcomes: Vec<_> = members.iter().map(settled).collect();
    if outcomes.contains(&Some(end)) {
        return Some(end);
    }
    (!outcomes.contains(&None)).then_some(!end)
}

/// VMs that have a process, or have none.
fn runs(running: bool) -> Find {
    let status = |word: &str| Find::Is {
        field: "status",
        op: if running { Op::Unequal } else { Op::Equal },
        value: Value::Text(word.to_owned()),
        case_sensitive: true,
    };
    let stopped = vec![status("down"), status("suspended")];
    if running {
        Find::All(stopped)
    } else {
        Find::Any(stopped)
    }
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
