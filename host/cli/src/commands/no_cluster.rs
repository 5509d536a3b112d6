//! `cluster` of a program that is built without the local cluster.

use paperclip_prepare::access::AccessError;

use crate::args::ClusterArgs;
use crate::exit::{CommandError, Exit, usage};

pub(crate) async fn cluster(_args: ClusterArgs) -> Result<Exit, CommandError> {
    Err(usage(AccessError::NoLocalCluster))
}
