//! The judgement of a run, as the plugin's code.

use claude_k8s::outcome::judge;
use paperclip_kit::outcome::AdapterResult;

use crate::judgement::story::Story;

pub(crate) fn judged(story: &Story) -> AdapterResult {
    judge(&story.evidence, &story.stream)
}
