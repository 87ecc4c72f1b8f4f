//! The configuration of a VM as an OVF document, in oVirt's own dialect of it (spec section 6).
//!
//! Made from the record that a snapshot stores, so that the document of a snapshot is the configuration at that time.
//! Both versions of the API write it from the same record. Sizes in the document are whole GiB as oVirt has them; the
//! exact size, and what version 3 has no word for, is beside them in a namespace of our own, which other readers skip.

mod read;
mod write;

pub(crate) use read::configuration;
pub(crate) use write::{Subject, document};

use stillpoint_wire::model;

const OVF: &str = "http://schemas.dmtf.org/ovf/envelope/1/";
const RASD: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData";
const VSSD: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData";
const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";
/// The namespace of exact sizes, and of what version 3 has no word for.
const OWN: &str = "urn:stillpoint:ovf:1";
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// The element that holds a document.
pub(crate) fn initialization(document: String) -> model::Initialization {
    model::Initialization {
        configuration: Some(model::Configuration {
            data: Some(document),
            kind: Some("ovf".into()),
        }),
    }
}
