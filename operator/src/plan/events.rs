//! Events: what has just turned, for people who watch.
//!
//! Told from the difference between the conditions in the status and those that are about to be written, so that each
//! turn is told once, and again only if the status could not be written. One cause is told once, however many
//! conditions it touches.

use streamsession_api::{LastCleanup, condition};

use super::{Note, Plan, conditions::Verdict, reasons, report::Report, scene::Scene};

/// Most bytes of an event's note, by the API.
const NOTE: usize = 1000;

/// What the conditions' turns tell.
pub(crate) fn of_conditions(scene: &Scene<'_>, verdicts: &[Verdict]) -> Vec<Note> {
    let mut notes: Vec<Note> = Vec::new();
    // The causes before their sum.
    let (ready, parts): (Vec<_>, Vec<_>) = verdicts.iter().partition(|verdict| verdict.type_ == condition::READY);
    for verdict in parts.into_iter().chain(ready) {
        let before = scene.condition(verdict.type_);
        let turned = before.is_none_or(|before| before.status != verdict.status || before.reason != verdict.reason);
        let good = is_good(verdict);
        if !turned || !good && reasons::passes(&verdict.reason) && verdict.type_ != condition::UPDATE_PENDING {
            continue;
        }
        // That something is well is news only after it was not; all that at the start is summed up by Ready.
        let was_bad = before.is_some_and(|before| {
            before.status == if verdict.type_ == condition::STALLED { "True" } else { "False" }
                && !reasons::passes(&before.reason)
        });
        let sum = verdict.type_ == condition::READY && before.is_none_or(|before| before.status != verdict.status);
        if good && !was_bad && !sum || verdict.type_ == condition::UPDATE_PENDING && verdict.status != "True" {
            continue;
        }
        let warning = !good && verdict.type_ != condition::UPDATE_PENDING;
        let note = note(warning, action(verdict.type_), &verdict.reason, &verdict.message);
        if !notes.iter().any(|other| other.reason == note.reason && other.message == note.message) {
            notes.push(note);
        }
    }
    notes
}

/// What this pass does that people may want to know.
pub(crate) fn of_actions(plan: &Plan, rotated: &[String]) -> Vec<Note> {
    let mut notes = Vec::new();
    if let Some(pod) = &plan.delete_pod {
        notes.push(note(
            false,
            "Replace",
            reasons::POD_REPLACED,
            &format!("pod {} is made anew: {}", pod.name, pod.why),
        ));
    }
    for name in rotated {
        let text = format!("the value in Secret {name} is made anew; the one before is taken for a while");
        notes.push(note(false, "Rotate", reasons::SECRETS_ROTATED, &text));
    }
    notes
}

/// What a clean-up that has just ended tells, if that is news: something went, or did not.
pub(crate) fn of_cleanup(scene: &Scene<'_>, run: &LastCleanup) -> Option<Note> {
    let report =
        scene.observed.cleanup.as_ref().and_then(|run| Report::parse(run.said.as_deref()?)).unwrap_or_default();
    let news = report.deleted_any() || report.over_bytes > 0 || report.short_bytes > 0;
    match run.succeeded {
        true if !news => None,
        true => Some(note(false, "CleanUp", reasons::CLEANED_UP, &run.message)),
        false => Some(note(true, "CleanUp", reasons::CLEANUP_FAILED, &run.message)),
    }
}

fn is_good(verdict: &Verdict) -> bool {
    let wanted =
        if [condition::STALLED, condition::UPDATE_PENDING].contains(&verdict.type_) { "False" } else { "True" };
    verdict.status == wanted
}

fn action(type_: &str) -> &'static str {
    match type_ {
        condition::MEDIA_READY => "ServeMedia",
        condition::TURN_READY => "Relay",
        condition::STORAGE_READY => "Store",
        condition::UPLOADS_HEALTHY => "Upload",
        condition::UPDATE_PENDING => "Update",
        condition::STALLED => "Reconcile",
        _ => "Summarise",
    }
}

fn note(warning: bool, action: &'static str, reason: &str, message: &str) -> Note {
    let mut message = message.to_owned();
    if message.len() > NOTE {
        let end = message.char_indices().map(|(at, _)| at).take_while(|at| *at <= NOTE).last().unwrap_or_default();
        message.truncate(end);
        message.push('…');
    }
    Note { warning, reason: reason.to_owned(), action, message }
}
