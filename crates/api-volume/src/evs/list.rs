//! Parameters of lists, and the link to the page after. Parameters that are not known are passed over, as EVS does.

use super::{
    body::{self, MALFORMED},
    show,
};
use crate::{call::Call, fault::Refused, text};
use serde_json::{Map, Value, json};
use stillpoint_engine::view::volume::{Listed, Match, Scope, VolumeQuery};
use stillpoint_types::FaultCode;

/// Most elements of a page; more is refused.
const PAGE: u64 = 1000;

/// What a list was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) query: VolumeQuery,
    limit: u64,
    /// The page's length was given.
    is_paged: bool,
    /// The client wants to know how many fit.
    counted: bool,
}

/// A noun's list.
#[derive(Debug)]
pub(super) struct Noun {
    /// Its name.
    pub(super) plural: &'static str,
    /// The core's statuses that are shown so.
    pub(super) statuses: fn(&str) -> Vec<String>,
    /// Parameters that are compared with a field of the core.
    pub(super) equal: &'static [(&'static str, &'static str)],
    /// Keys of the order, and the core's field.
    pub(super) sort: &'static [(&'static str, &'static str)],
}

/// Reads the parameters.
///
/// # Errors
/// 400 with EVS's code for what is no number, no id, no key.
pub(super) fn read(call: &Call, noun: &Noun) -> Result<Asked, Refused> {
    let given = number(call, "limit")?;
    if given.is_some_and(|limit| limit > PAGE) {
        return Err(Refused::bad_request(format!("limit is more than {PAGE}")).evs("EVS.2142"));
    }
    let limit = given.unwrap_or(PAGE);
    let marker = match call.param("marker") {
        None => None,
        Some(text) => Some(body::uuid(text).ok_or_else(no_marker)?),
    };
    let with_count = call
        .param("with_count")
        .is_some_and(|word| word.eq_ignore_ascii_case("true"));
    let counted = show::is_native(call) || with_count;
    let query = VolumeQuery {
        scope: Scope::Project(call.project()?),
        matches: matches(call, noun)?,
        sort: order(call, noun)?,
        marker,
        offset: number(call, "offset")?.unwrap_or(0),
        // One more than is shown says whether there is more.
        limit: if limit == 0 { 0 } else { limit + 1 },
        count: counted,
    };
    Ok(Asked {
        query,
        limit,
        is_paged: given.is_some(),
        counted,
    })
}

fn no_marker() -> Refused {
    Refused::bad_request("marker is no id of this list").evs("EVS.1024")
}

/// What a failed list is: the marker is the one thing that it can fail to find.
pub(super) fn refused(fault: stillpoint_engine::Fault) -> Refused {
    match fault.code {
        FaultCode::NotFound => no_marker(),
        _ => fault.into(),
    }
}

fn number(call: &Call, name: &str) -> Result<Option<u64>, Refused> {
    let Some(text) = call.param(name) else {
        return Ok(None);
    };
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = is_number.then(|| text.parse::<u64>().ok()).flatten();
    value
        .filter(|value| i64::try_from(*value).is_ok_and(|value| value < i64::MAX))
        .map(Some)
        .ok_or_else(|| Refused::bad_request(format!("{name} must be a whole number, not negative")).evs(MALFORMED))
}

fn order(call: &Call, noun: &Noun) -> Result<Vec<(&'static str, bool)>, Refused> {
    let (key, direction) = (call.param("sort_key"), call.param("sort_dir"));
    if key.is_none() && direction.is_none() {
        return Ok(Vec::new());
    }
    let key = key.unwrap_or("created_at");
    let field = noun.sort.iter().find(|(name, _)| *name == key);
    let (_, field) = field.ok_or_else(|| Refused::bad_request("sort_key is none of this list").evs("EVS.1039"))?;
    let is_descending = match direction {
        None | Some("desc") => true,
        Some("asc") => false,
        Some(_) => return Err(Refused::bad_request("sort_dir is asc or desc").evs("EVS.1040")),
    };
    Ok(vec![(field, is_descending)])
}

fn matches(call: &Call, noun: &Noun) -> Result<Vec<Match>, Refused> {
    let mut matches = Vec::new();
    for (key, value) in &call.query {
        let key = key.as_str();
        let is = |wanted: bool| if wanted { None } else { Some(Match::Nothing) };
        let found = match key {
            "status" => match (noun.statuses)(value) {
                none if none.is_empty() => Some(Match::Nothing),
                held => Some(Match::In("status", held)),
            },
            "availability_zone" => is(value == show::ZONE),
            "service_type" => is(value == "EVS"),
            "dedicated_storage_id" | "dedicated_storage_name" => Some(Match::Nothing),
            "enterprise_project_id" => is(value == "0" || value == "all_granted_eps"),
            "multiattach" => is(value.eq_ignore_ascii_case("false")),
            "ids" => Some(Match::In("id", ids(value))),
            "metadata" => Some(Match::Metadata(metadata(value)?)),
            _ => noun
                .equal
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, field)| Match::In(field, vec![value.clone()])),
        };
        matches.extend(found);
    }
    Ok(matches)
}

/// `['id', 'id']`, as EVS's documents have it, or with commas alone.
fn ids(text: &str) -> Vec<String> {
    text.trim_matches(['[', ']'])
        .split(',')
        .map(|id| id.trim().trim_matches(['\'', '"']).to_owned())
        .collect()
}

/// An object of texts.
fn metadata(text: &str) -> Result<stillpoint_engine::command::volume::Metadata, Refused> {
    serde_json::from_str(text)
        .or_else(|_no_json| serde_json::from_str(&text.replace('\'', "\"")))
        .map_err(|_neither| Refused::bad_request("metadata must be an object of texts").evs(MALFORMED))
}

/// The answer: elements under the noun's name, how many fit, the link to the next page if there is one.
pub(super) fn answer<T>(
    call: &Call,
    asked: &Asked,
    noun: &Noun,
    listed: &Listed<T>,
    id: impl Fn(&T) -> String,
    show: impl Fn(&T) -> Value,
) -> Value {
    let length = usize::try_from(asked.limit).unwrap_or(usize::MAX);
    let shown = listed.items.get(..length).unwrap_or(&listed.items);
    let mut answer = Map::new();
    answer.insert(noun.plural.to_owned(), shown.iter().map(show).collect());
    if asked.counted {
        answer.insert("count".to_owned(), json!(listed.count));
    }
    if let (true, Some(last)) = (asked.is_paged && listed.items.len() > shown.len(), shown.last()) {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, value) in call.query.iter().filter(|(key, _)| key != "marker" && key != "offset") {
            query.append_pair(key, value);
        }
        query.append_pair("marker", &id(last));
        let href = format!("{}{}?{}", call.api.public_url(), path(call), query.finish());
        answer.insert(format!("{}_links", noun.plural), json!([{"rel": "next", "href": href}]));
    }
    Value::Object(answer)
}

/// The path of this list.
fn path(call: &Call) -> String {
    let project = call.project().map(|project| text::hex(project.0)).unwrap_or_default();
    call.route.pattern.replace("{project}", &project)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_ids_and_objects_are_read_as_the_documents_spell_them() {
        assert_eq!(ids("['a', 'b']"), ["a", "b"]);
        assert_eq!(ids("a,b"), ["a", "b"]);
        assert_eq!(metadata("{'a':'b'}").unwrap()["a"], "b");
        assert_eq!(metadata("{\"it's\":\"b\"}").unwrap()["it's"], "b");
        assert!(metadata("{a:b}").is_err());
    }
}
