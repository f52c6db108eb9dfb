//! What is to be done next before the operator is taken away, as a pure function of what there is.
//!
//! In this order: sessions that are being deleted end first, since only the operator can finish them; then the operator
//! stops, so that nobody adds a finalizer again; then those that stay are freed of it. Nothing is taken off a session
//! that is being deleted: somebody wanted its recordings to be seen to.

use crate::plan::names::FINALIZER;
use std::time::Duration;

/// How long an operator that should run and does not is waited for: it may just be starting.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Most sessions that one line names.
const NAMED: usize = 8;
/// Most characters of what each of them says.
const SAID: usize = 200;

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Of the watched namespaces.
    pub sessions: Vec<Session>,
    /// The operator.
    pub operator: Operator,
}

/// A session, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its resourceVersion.
    pub version: String,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Its finalizers.
    pub finalizers: Vec<String>,
    /// What its condition Ready says.
    pub message: String,
}

impl Session {
    /// Whether its end waits for the operator.
    pub fn is_held(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// The operator's Deployment, and its pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operator {
    /// Replicas that are wanted; 0 as well when there is no Deployment.
    pub wanted: i32,
    /// Replicas that are ready.
    pub ready: i32,
    /// Pods that have not ended.
    pub pods: usize,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// Delete these sessions.
    Delete(Vec<&'a Session>),
    /// Look again in a while.
    Wait(Waiting<'a>),
    /// Stop the operator.
    Stop,
    /// Take the finalizer off these sessions.
    Free(Vec<&'a Session>),
    /// Nothing is left to do.
    Done,
    /// These are being deleted, or would be, and nobody can finish them.
    Abandoned(Vec<&'a Session>),
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting<'a> {
    /// Sessions that are being deleted.
    Sessions(Vec<&'a Session>),
    /// The operator, which should run, and these sessions need it.
    Start(Vec<&'a Session>),
    /// This many pods of the operator, which are ending.
    Pods(usize),
}

/// What is to be done next. `delete_sessions`: all sessions go, as their definition does. `idle`: for how long the operator
/// has had no replica that is ready.
pub fn next(world: &World, delete_sessions: bool, idle: Duration) -> Next<'_> {
    let of = |which: &dyn Fn(&Session) -> bool| -> Vec<&Session> {
        world.sessions.iter().filter(|session| which(session)).collect()
    };
    let operator = world.operator;
    let needing = of(&|session| session.is_held() && (session.deleting || delete_sessions));
    if !needing.is_empty() && (operator.wanted == 0 || operator.ready == 0) {
        let may_come = operator.wanted > 0 && idle < PATIENCE;
        return if may_come { Next::Wait(Waiting::Start(needing)) } else { Next::Abandoned(needing) };
    }
    let staying = of(&|session| !session.deleting);
    if delete_sessions && !staying.is_empty() {
        return Next::Delete(staying);
    }
    let deleting = of(&|session| session.deleting);
    if !deleting.is_empty() {
        return Next::Wait(Waiting::Sessions(deleting));
    }
    if operator.wanted > 0 {
        return Next::Stop;
    }
    if operator.pods > 0 {
        return Next::Wait(Waiting::Pods(operator.pods));
    }
    let held = of(&Session::is_held);
    if held.is_empty() { Next::Done } else { Next::Free(held) }
}

impl Waiting<'_> {
    /// In one line.
    pub fn told(&self) -> String {
        match self {
            Waiting::Sessions(sessions) => format!("sessions that are being deleted: {}", named(sessions)),
            Waiting::Start(sessions) => format!("the operator, which is not ready, to finish {}", named(sessions)),
            Waiting::Pods(number) => format!("the end of the operator's pods ({number})"),
        }
    }

    /// What to do when it does not come.
    pub fn remedy(&self) -> String {
        match self {
            Waiting::Sessions(sessions) => format!(
                "give them more time (uninstall.guard.deadline, and helm's --timeout), or give up what their \
                 reclaimPolicy waits for: {}, or leave them as they are: helm uninstall --no-hooks",
                retain(sessions)
            ),
            Waiting::Start(_) => "the operator's log says why it is not ready".to_owned(),
            Waiting::Pods(_) => {
                "a pod that does not end is on a node that does not answer: delete it with --force".to_owned()
            }
        }
    }
}

/// What to tell of sessions that nobody can finish.
pub fn abandoned(sessions: &[&Session], deployment: &str, namespace: &str) -> String {
    format!(
        "the operator does not run, and only it can finish the deletion of {}; start it (kubectl scale -n {namespace} \
         deployment/{deployment} --replicas=1) and uninstall again, or leave them as they are: helm uninstall --no-hooks",
        named(sessions)
    )
}

/// `namespace/name (what Ready says)`, with commas.
pub fn named(sessions: &[&Session]) -> String {
    let each = sessions.iter().take(NAMED).map(|session| match session.message.as_str() {
        "" => session.key(),
        message if message.chars().count() > SAID => {
            format!("{} ({}…)", session.key(), message.chars().take(SAID).collect::<String>())
        }
        message => format!("{} ({message})", session.key()),
    });
    let mut names = each.collect::<Vec<_>>().join(", ");
    if sessions.len() > NAMED {
        names += &format!(" and {} more", sessions.len() - NAMED);
    }
    names
}

fn retain(sessions: &[&Session]) -> String {
    let place = match sessions {
        [session] => format!("ss/{} -n {}", session.name, session.namespace),
        _ => "ss/NAME -n NAMESPACE".to_owned(),
    };
    format!("kubectl patch {place} --type merge -p '{{\"spec\":{{\"recording\":{{\"reclaimPolicy\":\"Retain\"}}}}}}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: Operator = Operator { wanted: 1, ready: 1, pods: 1 };
    const STOPPED: Operator = Operator { wanted: 0, ready: 0, pods: 0 };

    fn session(name: &str, deleting: bool, held: bool) -> Session {
        let finalizers = if held { vec!["example.com/other".to_owned(), FINALIZER.to_owned()] } else { Vec::new() };
        Session { namespace: "cams".to_owned(), name: name.to_owned(), deleting, finalizers, ..Session::default() }
    }

    fn world(operator: Operator, sessions: &[Session]) -> World {
        World { sessions: sessions.to_vec(), operator }
    }

    /// Names of what is to be done, and its kind.
    fn told(world: &World, delete_sessions: bool, idle: Duration) -> String {
        let names = |sessions: &[&Session]| sessions.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(" ");
        match next(world, delete_sessions, idle) {
            Next::Delete(sessions) => format!("delete {}", names(&sessions)),
            Next::Wait(Waiting::Sessions(sessions)) => format!("wait for {}", names(&sessions)),
            Next::Wait(Waiting::Start(_)) => "wait for the operator".to_owned(),
            Next::Wait(Waiting::Pods(number)) => format!("wait for {number} pods"),
            Next::Stop => "stop".to_owned(),
            Next::Free(sessions) => format!("free {}", names(&sessions)),
            Next::Done => "done".to_owned(),
            Next::Abandoned(sessions) => format!("abandoned {}", names(&sessions)),
        }
    }

    #[test]
    fn deletions_end_before_the_operator_stops_and_it_stops_before_others_are_freed() {
        let now = Duration::ZERO;
        let sessions = [session("going", true, true), session("staying", false, true), session("plain", false, false)];
        assert_eq!(told(&world(RUNS, &sessions), false, now), "wait for going");
        assert_eq!(told(&world(RUNS, &sessions[1..]), false, now), "stop");
        let ending = Operator { wanted: 0, ready: 0, pods: 2 };
        assert_eq!(told(&world(ending, &sessions[1..]), false, now), "wait for 2 pods");
        assert_eq!(told(&world(STOPPED, &sessions[1..]), false, now), "free staying");
        assert_eq!(told(&world(STOPPED, &sessions[2..]), false, now), "done");
        assert_eq!(told(&world(STOPPED, &[]), false, now), "done");
    }

    #[test]
    fn sessions_that_go_with_their_definition_are_deleted_while_the_operator_runs() {
        let now = Duration::ZERO;
        let sessions = [session("one", false, true), session("two", true, true)];
        assert_eq!(told(&world(RUNS, &sessions), true, now), "delete one");
        assert_eq!(told(&world(RUNS, &sessions[1..]), true, now), "wait for two");
        assert_eq!(told(&world(RUNS, &[]), true, now), "stop");
        assert_eq!(told(&world(STOPPED, &[session("plain", false, false)]), true, now), "delete plain");
    }

    #[test]
    fn without_an_operator_what_needs_it_is_told_at_once_and_nothing_is_taken_off() {
        let going = [session("going", true, true), session("staying", false, true)];
        assert_eq!(told(&world(STOPPED, &going), false, Duration::ZERO), "abandoned going");
        assert_eq!(told(&world(STOPPED, &going[1..]), true, Duration::ZERO), "abandoned staying", "and not deleted");
        let others = [session("elsewhere", true, false)];
        assert_eq!(told(&world(STOPPED, &others), false, Duration::ZERO), "wait for elsewhere", "not ours to end");
    }

    #[test]
    fn an_operator_that_should_run_is_waited_for_a_while() {
        let going = [session("going", true, true)];
        let starting = Operator { wanted: 1, ready: 0, pods: 1 };
        assert_eq!(told(&world(starting, &going), false, Duration::ZERO), "wait for the operator");
        assert_eq!(told(&world(starting, &going), false, PATIENCE), "abandoned going");
        assert_eq!(told(&world(starting, &[]), false, PATIENCE), "stop", "nobody needs it");
    }

    #[test]
    fn what_is_waited_for_is_named_with_its_reason_and_its_remedy() {
        let mut stuck = session("door", true, true);
        stuck.message = "3 files wait for the store".to_owned();
        let waiting = Waiting::Sessions(vec![&stuck]);
        assert!(waiting.told().ends_with("cams/door (3 files wait for the store)"), "{}", waiting.told());
        for part in
            ["kubectl patch ss/door -n cams", r#"{"spec":{"recording":{"reclaimPolicy":"Retain"}}}"#, "--no-hooks"]
        {
            assert!(waiting.remedy().contains(part), "{}", waiting.remedy());
        }
        let text = abandoned(&[&stuck], "operator", "system");
        for part in ["cams/door", "kubectl scale -n system deployment/operator --replicas=1", "--no-hooks"] {
            assert!(text.contains(part), "{text}");
        }
        let many: Vec<Session> = (0..30).map(|number| session(&format!("s{number}"), true, true)).collect();
        assert!(named(&many.iter().collect::<Vec<_>>()).ends_with("cams/s7 and 22 more"));
        stuck.message = "ä".repeat(1000);
        assert_eq!(named(&[&stuck]), format!("cams/door ({}…)", "ä".repeat(200)));
    }
}
