//! Compressed clusters of type deflate, without a header.

use crate::{Damage, entry::Packed};
use flate2::{Decompress, FlushDecompress, Status};

/// Unpacks one cluster. What follows it in `bytes` is another's.
pub(crate) fn unpack(bytes: &[u8], cluster: &mut [u8], packed: Packed) -> Result<(), Damage> {
    let bad = Damage::Compressed(packed.at);
    let mut inflate = Decompress::new(false);
    let wanted = cluster.len() as u64;
    match inflate.decompress(bytes, cluster, FlushDecompress::Finish) {
        // As QEMU: it may go on behind a full cluster, as the number of its bytes is not known exactly.
        Ok(Status::StreamEnd | Status::BufError | Status::Ok) if inflate.total_out() == wanted => Ok(()),
        _ => Err(bad),
    }
}
