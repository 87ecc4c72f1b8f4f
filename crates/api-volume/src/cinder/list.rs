//! Parameters of lists: page, order, conditions; and the link to the page after.

use super::{body, pairs};
use crate::{call::Call, fault::Refused};
use serde_json::{Map, Value, json};
use stillpoint_engine::view::volume::{Listed, Match, Scope, VolumeQuery};

/// Most elements of a page.
const PAGE: u64 = 1000;
/// The one zone that there is.
pub(super) const ZONE: &str = "nova";

/// What a noun's list understands.
#[derive(Debug)]
pub(super) struct Nouns {
    /// Name of the list.
    pub(super) plural: &'static str,
    /// Since which microversion its parameter `metadata` is heard.
    pub(super) metadata_since: u16,
    /// Since which microversion it is sorted by `name`.
    pub(super) name_since: u16,
    /// Parameters that are compared with a field of the same name, and the field.
    pub(super) equal: &'static [(&'static str, &'static str)],
    /// Keys of the order, and the field.
    pub(super) sort: &'static [(&'static str, &'static str)],
    /// Statuses of the core that are shown under another name: the shown one, and those.
    pub(super) shown: &'static [(&'static str, &'static [&'static str])],
    /// Parameters of fields that are null of every element: nothing fits.
    pub(super) null: &'static [&'static str],
    /// Parameters that are instants (3.60).
    pub(super) instants: &'static [&'static str],
}

/// What a list was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) query: VolumeQuery,
    limit: Option<u64>,
}

/// Reads the parameters.
///
/// # Errors
/// 400 for what is no number, no key, no direction, and for a parameter that is not known from 3.31 on; 404 for a marker that
/// is no id.
pub(super) fn read(call: &Call, nouns: &Nouns) -> Result<Asked, Refused> {
    let limit = number(call, "limit")?;
    let marker = match call.param("marker") {
        None => None,
        Some(text) => Some(body::uuid(text).ok_or_else(|| Refused::not_found("The marker could not be found"))?),
    };
    let count = match call.param("with_count") {
        Some(word) if call.microversion.at_least(45) => {
            body::word_of_flag(word).ok_or_else(|| Refused::bad_request("with_count must be true or false"))?
        }
        _ => false,
    };
    let is_all = call.who().is_admin
        && match call.param("all_tenants") {
            None => false,
            Some(word) => {
                body::word_of_flag(word).ok_or_else(|| Refused::bad_request("all_tenants must be true or false"))?
            }
        };
    let query = VolumeQuery {
        scope: if is_all {
            Scope::All
        } else {
            Scope::Project(call.project()?)
        },
        matches: matches(call, nouns)?,
        sort: order(call, nouns)?,
        marker,
        offset: number(call, "offset")?.unwrap_or(0),
        limit: limit.unwrap_or(PAGE).min(PAGE),
        count,
    };
    Ok(Asked { query, limit })
}

fn number(call: &Call, name: &str) -> Result<Option<u64>, Refused> {
    let Some(text) = call.param(name) else {
        return Ok(None);
    };
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = is_number.then(|| text.parse::<u64>().ok()).flatten();
    value
        .filter(|value| i64::try_from(*value).is_ok())
        .map(Some)
        .ok_or_else(|| Refused::bad_request(format!("{name} must be a whole number, not negative")))
}

/// `sort=key[:direction],...`, or one `sort_key` with its `sort_dir`.
fn order(call: &Call, nouns: &Nouns) -> Result<Vec<(&'static str, bool)>, Refused> {
    let (key, direction) = (call.param("sort_key"), call.param("sort_dir"));
    let given: Vec<(&str, Option<&str>)> = match call.param("sort") {
        Some(_) if key.is_some() || direction.is_some() => {
            return Err(Refused::bad_request(
                "sort does not go together with sort_key and sort_dir",
            ));
        }
        Some(text) => text
            .split(',')
            .map(|part| match part.split_once(':') {
                Some((key, direction)) => (key.trim(), Some(direction.trim())),
                None => (part.trim(), None),
            })
            .collect(),
        None if key.is_none() && direction.is_none() => return Ok(Vec::new()),
        None => vec![(key.unwrap_or("created_at"), direction)],
    };
    let mut order = Vec::with_capacity(given.len());
    for (key, direction) in given {
        let known = nouns.sort.iter().find(|(name, _)| *name == key);
        let field = known
            .filter(|_| key != "name" || call.microversion.at_least(nouns.name_since))
            .map(|(_, field)| *field)
            .ok_or_else(|| Refused::bad_request("Invalid sort key"))?;
        let is_descending = match direction {
            None | Some("desc") => true,
            Some("asc") => false,
            Some(_) => return Err(Refused::bad_request("A sort direction is asc or desc")),
        };
        order.push((field, is_descending));
    }
    Ok(order)
}

/// Parameters that are no conditions.
const NO_CONDITIONS: &[&str] = &[
    "limit",
    "marker",
    "offset",
    "sort",
    "sort_key",
    "sort_dir",
    "all_tenants",
    "with_count",
];

fn matches(call: &Call, nouns: &Nouns) -> Result<Vec<Match>, Refused> {
    let mut matches = Vec::new();
    for (key, value) in &call.query {
        let key = key.as_str();
        if NO_CONDITIONS.contains(&key) {
            continue;
        }
        if let Some(found) = condition(call, nouns, key, value)? {
            matches.extend(found);
        } else if call.who().is_admin {
            matches.push(Match::Nothing);
        } else if call.microversion.at_least(31) {
            return Err(Refused::bad_request(format!(
                "{} cannot be filtered by {:?}",
                nouns.plural,
                key.chars().take(64).collect::<String>()
            )));
        }
    }
    Ok(matches)
}

/// What a parameter asks; `None`: it is not known at this version.
fn condition(call: &Call, nouns: &Nouns, key: &str, value: &str) -> Result<Option<Vec<Match>>, Refused> {
    let version = call.microversion;
    let key = key.strip_prefix("display_").unwrap_or(key);
    if let Some(stem) = key.strip_suffix('~') {
        let like = |field| Some(vec![Match::Like(field, value.to_owned())]);
        return Ok(match stem {
            _ if !version.at_least(34) => None,
            "name" => like("name"),
            "description" => like("description"),
            "status" => like("status"),
            _ => None,
        });
    }
    if nouns.instants.contains(&key) {
        return instants(call, nouns, key, value).map(Some);
    }
    Ok(match key {
        "availability_zone" if value == ZONE => Some(Vec::new()),
        "availability_zone" => Some(vec![Match::Nothing]),
        "metadata" if version.at_least(nouns.metadata_since) => {
            Some(vec![Match::Metadata(pairs::read(value).ok_or_else(|| {
                Refused::bad_request("metadata must be an object of texts")
            })?)])
        }
        "metadata" => Some(Vec::new()),
        "consumes_quota" if !version.at_least(65) => None,
        "consumes_quota" => {
            Some(vec![yes_or_no("consumes_quota", value).ok_or_else(|| {
                Refused::bad_request("consumes_quota must be true or false")
            })?])
        }
        "bootable" if nouns.equal.iter().any(|(name, _)| *name == key) => match yes_or_no("bootable", value) {
            Some(found) => Some(vec![found]),
            None if version.at_least(2) => return Err(Refused::bad_request("bootable must be true or false")),
            None => Some(Vec::new()),
        },
        "status" => Some(vec![Match::In("status", statuses(nouns, value))]),
        // An administrator's: of one project among all.
        "project_id" if call.who().is_admin => Some(vec![match crate::text::from_hex(value) {
            Some(id) => Match::In("project_id", vec![id.to_string()]),
            None => Match::Nothing,
        }]),
        _ if nouns.null.contains(&key) => Some(vec![Match::Nothing]),
        _ => nouns
            .equal
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, field)| vec![Match::In(field, vec![value.to_owned()])]),
    })
}

/// The core's statuses that are shown so.
fn statuses(nouns: &Nouns, value: &str) -> Vec<String> {
    match nouns.shown.iter().find(|(shown, _)| *shown == value) {
        Some((_, held)) => held.iter().map(|status| (*status).to_owned()).collect(),
        None => vec![value.to_owned()],
    }
}

fn yes_or_no(field: &'static str, value: &str) -> Option<Match> {
    let flag = body::word_of_flag(value)?;
    Some(Match::In(field, vec![flag.to_string()]))
}

/// `gt:2020-01-01T00:00:00,lt:...` (3.60), or one instant.
fn instants(call: &Call, nouns: &Nouns, key: &str, value: &str) -> Result<Vec<Match>, Refused> {
    let field = if key == "created_at" {
        "created_at"
    } else {
        "updated_at"
    };
    let bad = || {
        Refused::bad_request(format!(
            "{key} of {} must be an instant as ISO 8601 has it",
            nouns.plural
        ))
    };
    let mut found = Vec::new();
    for part in value.split(',') {
        let (operator, text) = match part.split_once(':') {
            Some((word, rest)) if call.microversion.at_least(60) && word.bytes().all(|b| b.is_ascii_alphabetic()) => {
                let operator = match word {
                    "gt" => ">",
                    "gte" => ">=",
                    "eq" => "=",
                    "neq" => "<>",
                    "lt" => "<",
                    "lte" => "<=",
                    _ => return Err(bad()),
                };
                (operator, rest)
            }
            _ => ("=", part),
        };
        found.push(Match::Compare(field, operator, micros(text).ok_or_else(bad)?));
    }
    Ok(found)
}

/// An instant with or without a zone; without one it is UTC.
fn micros(text: &str) -> Option<i64> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(at.as_microsecond());
    }
    let at: jiff::civil::DateTime = text.parse().ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond())
}

/// The answer: elements under the noun's name, the link to the next page if this one is full, the count if it was asked.
pub(super) fn answer<T>(
    call: &Call,
    asked: &Asked,
    plural: &str,
    path: &str,
    listed: &Listed<T>,
    id: impl Fn(&T) -> String,
    show: impl Fn(&T) -> Value,
) -> Value {
    let items: Vec<Value> = listed.items.iter().map(show).collect();
    let mut answer = Map::new();
    let is_full = u64::try_from(items.len()).is_ok_and(|length| length >= asked.query.limit);
    if let (Some(last), true) = (listed.items.last(), is_full) {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, value) in &call.query {
            // A follower would pass over things again with it.
            if key != "marker" && key != "offset" && key != "limit" {
                query.append_pair(key, value);
            }
        }
        query.append_pair("limit", &asked.limit.unwrap_or(PAGE).min(PAGE).to_string());
        query.append_pair("marker", &id(last));
        let href = format!("{}/{path}?{}", base(call), query.finish());
        answer.insert(format!("{plural}_links"), json!([{"rel": "next", "href": href}]));
    }
    answer.insert(plural.to_owned(), Value::Array(items));
    if let Some(count) = listed.count {
        answer.insert("count".to_owned(), json!(count));
    }
    Value::Object(answer)
}

/// What this call's links begin with: with the project's id if its own path has it.
pub(super) fn base(call: &Call) -> String {
    match &call.given.project {
        Some(project) => format!("{}/volume/v3/{project}", call.api.public_url()),
        None => format!("{}/volume/v3", call.api.public_url()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_with_and_without_a_zone() {
        assert_eq!(micros("1970-01-01T00:00:01"), Some(1_000_000));
        assert_eq!(micros("1970-01-01T00:00:01Z"), Some(1_000_000));
        assert_eq!(micros("1970-01-01T01:00:01+01:00"), Some(1_000_000));
        assert_eq!(micros("yesterday"), None);
    }
}
