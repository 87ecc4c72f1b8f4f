//! The front: the virtual machines. And what is no page.

use crate::{answer, layout, trouble::Trouble, ui, visit::Visit};
use axum::body::Body;
use http::{HeaderMap, Response};
use maud::html;
use stillpoint_engine::view::{Filter, Page};

/// VMs on a page.
const PAGE: usize = 100;

/// `/console`: to its front.
pub(crate) async fn to_front() -> Response<Body> {
    answer::see_other("/console/")
}

/// Everything that is no page.
pub(crate) async fn nowhere(_visit: Visit) -> Trouble {
    Trouble::Nowhere
}

/// The virtual machines.
pub(crate) async fn show(visit: Visit, headers: HeaderMap) -> Result<Response<Body>, Trouble> {
    let page = Page {
        limit: PAGE,
        ..Page::default()
    };
    let vms = visit.engine().vms(&visit.who, &Filter::default(), &page).await?;
    let list = html! {
        @if vms.items.is_empty() {
            section.card.empty {
                h2 { "No virtual machine yet" }
                p { "Make one from the command line, then it is here:" }
                pre { "stillpoint vm create db1 --memory 256M --kernel vmlinuz --initrd initramfs.img" }
            }
        } @else {
            table {
                thead { tr { th scope="col" { "Name" } th scope="col" { "Status" } th scope="col" { "Memory" } } }
                tbody {
                    @for vm in &vms.items {
                        tr {
                            th scope="row" { a href={ "/console/vms/" (vm.id) } { (vm.config.name) } }
                            td { (ui::badge(vm.status.label())) " " (ui::holder(vm.holder.as_ref())) }
                            td { (ui::bytes(vm.config.memory_bytes)) }
                        }
                    }
                }
            }
        }
    };
    let content = ui::live("vms", &list);
    let page = layout::page(&visit, "Virtual machines", "/console/", &content);
    Ok(layout::unless_known(&headers, page))
}
