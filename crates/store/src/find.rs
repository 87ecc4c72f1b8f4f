//! What a search asks of a noun's rows, and in which order, as SQL.
//!
//! A noun has a [`Table`]: the fields that can be asked for, each with its SQL. Names of fields come from the program and
//! stand in the text; values come from clients and never do. How large a search may be is the edges' business; SQLite
//! itself bounds the depth of an expression (1000) and the length of a pattern (50000 bytes).

use crate::{StoreError, Stored};
use rusqlite::types::Value as Sql;

/// A condition on rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Find {
    /// All of these hold; none: everything is found.
    All(Vec<Self>),
    /// At least one of these holds; none: nothing is found.
    Any(Vec<Self>),
    /// A field has a value. Of related things one is enough; `Unequal` means that none has it.
    Is {
        /// The field, a word of the noun's table.
        field: &'static str,
        /// How it is compared.
        op: Op,
        /// With what.
        value: Value,
        /// Texts are compared with case.
        case_sensitive: bool,
    },
}

impl Default for Find {
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `=`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

/// What a field is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text. In `Equal` and `Unequal` a `*` is any run of characters.
    Text(String),
    /// A number, or an instant in microseconds.
    Number(i64),
}

/// An order other than the noun's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// By this field; not one of related things.
    pub field: &'static str,
    /// Backwards.
    pub descending: bool,
}

/// A field that can be asked for.
#[derive(Debug)]
pub(crate) struct Column {
    /// What the engine calls it.
    pub(crate) name: &'static str,
    /// Its value, as SQL.
    pub(crate) sql: &'static str,
    /// It is a number.
    pub(crate) number: bool,
    /// For the field of a related thing: the SELECT that leads there, with `{}` for the test.
    pub(crate) through: Option<&'static str>,
}

/// A text field.
pub(crate) const fn text(name: &'static str, sql: &'static str) -> Column {
    Column {
        name,
        sql,
        number: false,
        through: None,
    }
}

/// A field that holds a number or an instant.
pub(crate) const fn number(name: &'static str, sql: &'static str) -> Column {
    Column {
        name,
        sql,
        number: true,
        through: None,
    }
}

/// A text field of a related thing.
pub(crate) const fn related(name: &'static str, sql: &'static str, through: &'static str) -> Column {
    Column {
        name,
        sql,
        number: false,
        through: Some(through),
    }
}

/// How a noun's rows are searched and ordered.
#[derive(Debug)]
pub(crate) struct Table {
    /// The table.
    pub(crate) name: &'static str,
    /// SQL of the id.
    pub(crate) id: &'static str,
    /// SQL of the project.
    pub(crate) project: &'static str,
    /// The order where none is asked for; ids break ties.
    pub(crate) order: Sort,
    /// What can be asked for.
    pub(crate) columns: &'static [Column],
}

impl Table {
    /// A field by its name.
    ///
    /// # Errors
    /// `BadValue` for one that the table does not have: a fault of this program.
    pub(crate) fn column(&self, field: &str) -> Stored<&'static Column> {
        let found = self.columns.iter().find(|column| column.name == field);
        found.ok_or_else(|| StoreError::BadValue(format!("{} has no field {field}", self.name)))
    }
}

impl Find {
    /// The condition as SQL; its values are added to `values`.
    pub(crate) fn sql(&self, table: &Table, values: &mut Vec<Sql>) -> Stored<String> {
        let (members, word, nothing) = match self {
            Self::Is {
                field,
                op,
                value,
                case_sensitive,
            } => return is(table.column(field)?, *op, value, *case_sensitive, values),
            Self::All(members) => (members, " AND ", "1 = 1"),
            Self::Any(members) => (members, " OR ", "1 = 0"),
        };
        if members.is_empty() {
            return Ok(nothing.to_owned());
        }
        let parts: Vec<String> = members
            .iter()
            .map(|member| member.sql(table, values))
            .collect::<Stored<_>>()?;
        Ok(format!("({})", parts.join(word)))
    }
}

fn is(column: &Column, op: Op, value: &Value, case_sensitive: bool, values: &mut Vec<Sql>) -> Stored<String> {
    let test = match (value, op) {
        (Value::Text(glob), Op::Equal | Op::Unequal) => matches(column.sql, glob, case_sensitive, values),
        (Value::Text(text), _) => {
            let (left, right) = if case_sensitive {
                (column.sql.to_owned(), text.clone())
            } else {
                (format!("casefold({})", column.sql), text.to_lowercase())
            };
            format!("{left} {} {}", symbol(op), push(values, Sql::Text(right)))
        }
        (Value::Number(number), _) => {
            format!("{} {} {}", column.sql, symbol(op), push(values, Sql::Integer(*number)))
        }
    };
    let test = match column.through {
        Some(through) => format!("EXISTS ({})", through.replace("{}", &test)),
        None => test,
    };
    // What has no value is neither equal nor less nor greater: NULL counts as false, where no NOT makes it one again.
    Ok(match op {
        Op::Unequal => format!("NOT coalesce({test}, 0)"),
        _ => test,
    })
}

/// The test whether a text fits a pattern in which only `*` is special.
fn matches(sql: &str, glob: &str, case_sensitive: bool, values: &mut Vec<Sql>) -> String {
    match (case_sensitive, glob.contains('*')) {
        (true, false) => format!("{sql} = {}", push(values, Sql::Text(glob.to_owned()))),
        (true, true) => {
            // GLOB keeps the case; its other special characters are bracketed away.
            let glob = glob.replace('[', "[[]").replace('?', "[?]");
            format!("{sql} GLOB {}", push(values, Sql::Text(glob)))
        }
        // LIKE folds the case of ASCII by itself.
        (false, _) if glob.is_ascii() => {
            let pattern = crate::column::like(glob);
            format!("{sql} LIKE {} ESCAPE '\\'", push(values, Sql::Text(pattern)))
        }
        (false, _) => {
            let pattern = crate::column::like(&glob.to_lowercase());
            format!("casefold({sql}) LIKE {} ESCAPE '\\'", push(values, Sql::Text(pattern)))
        }
    }
}

fn symbol(op: Op) -> &'static str {
    match op {
        // An unequal field is one that is not equal.
        Op::Equal | Op::Unequal => "=",
        Op::Less => "<",
        Op::AtMost => "<=",
        Op::Greater => ">",
        Op::AtLeast => ">=",
    }
}

/// Adds a value; its mark.
pub(crate) fn push(values: &mut Vec<Sql>, value: Sql) -> String {
    values.push(value);
    format!("?{}", values.len())
}

/// Gives a connection the function that folds the case of texts beyond ASCII.
pub(crate) fn install(sql: &rusqlite::Connection) -> rusqlite::Result<()> {
    use rusqlite::functions::FunctionFlags;
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    sql.create_scalar_function("casefold", 1, flags, |ctx| {
        Ok(ctx.get::<Option<String>>(0)?.map(|text| text.to_lowercase()))
    })
}
