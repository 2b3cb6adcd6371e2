//! The judging of what others answered: boundaries, and everything that is no answer.

use super::*;
use proptest::{prop_assert_eq, proptest};

fn share(limit: Unhealthy) -> Questions {
    let of = matches!(limit, Unhealthy::Percent(_)).then(|| "count(up)".to_owned());
    let unhealthy = Some(Share { query: "count(up == 0)".to_owned(), of, limit });
    Questions { unhealthy, ..Questions::default() }
}

fn verdict(questions: &Questions, answers: &Answers, gate: Reason) -> GateVerdict {
    let reports = questions.judge(answers);
    assert_eq!(reports.iter().map(|report| report.gate).collect::<Vec<_>>(), LATE);
    reports.iter().find(|report| report.gate == gate).unwrap().verdict
}

#[test]
fn a_share_is_rounded_down_and_what_is_not_known_denies() {
    use GateVerdict::{Deny, Pass};
    let ask = |limit, unhealthy: Result<f64, &str>, of: Option<Result<f64, &str>>| {
        let owned = |answer: Result<f64, &str>| answer.map_err(str::to_owned);
        let answers = Answers { unhealthy: Some(owned(unhealthy)), of: of.map(owned), ..Answers::default() };
        verdict(&share(limit), &answers, Reason::Systemic)
    };
    let (count, part) = (Unhealthy::Count(2.0), Unhealthy::Percent(30.0));
    assert_eq!((ask(count, Ok(2.0), None), ask(count, Ok(3.0), None)), (Pass, Deny));
    assert_eq!(ask(count, Err("no data"), None), Deny);
    assert_eq!(ask(count, Ok(f64::NAN), None), Deny);
    // 30% of 9 is 2.7, so 2 may be.
    assert_eq!((ask(part, Ok(2.0), Some(Ok(9.0))), ask(part, Ok(3.0), Some(Ok(9.0)))), (Pass, Deny));
    assert_eq!((ask(part, Ok(3.0), Some(Ok(10.0))), ask(part, Ok(1.0), Some(Ok(3.0)))), (Pass, Deny));
    for of in [None, Some(Err("stale")), Some(Ok(f64::NAN)), Some(Ok(f64::INFINITY)), Some(Ok(0.0))] {
        assert_eq!(ask(part, Ok(1.0), of), Deny, "{of:?}");
    }
}

proptest! {
    /// The model is whole numbers: `unhealthy` of `all` may be while its ten thousand parts are not more than the share's.
    #[test]
    fn a_share_allows_exactly_what_whole_numbers_allow(
        all in 0_u64..200_000, hundredths in 1_u64..=10_000, off in -2_i64..=2,
    ) {
        let border = all * hundredths / 10_000;
        let unhealthy = border.saturating_add_signed(off);
        let questions = share(Unhealthy::Percent(format!("{}.{:02}", hundredths / 100, hundredths % 100).parse().unwrap()));
        let answers = Answers {
            unhealthy: Some(Ok(unhealthy as f64)),
            of: Some(Ok(all as f64)),
            ..Answers::default()
        };
        let may = unhealthy * 10_000 <= all * hundredths;
        let expected = if may { GateVerdict::Pass } else { GateVerdict::Deny };
        prop_assert_eq!(verdict(&questions, &answers, Reason::Systemic), expected);
    }
}

#[test]
fn a_share_with_a_fraction_is_as_exact_as_on_paper() {
    for (all, percent, part) in
        [(750.0, 9.2, 69.0), (1500.0, 4.6, 69.0), (749.0, 9.2, 68.0), (9.0, 30.0, 2.0)]
    {
        assert_eq!(part_of(all, percent), part, "{percent}% of {all}");
    }
}

#[test]
fn an_alert_must_be_known_and_not_muted() {
    use GateVerdict::{Deny, Off, Pass};
    let questions = Questions { confirm: Some(Labels::new()), ..Questions::default() };
    let three = |confirm| {
        let answers = Answers { confirm, ..Answers::default() };
        [Reason::Unconfirmed, Reason::NotFiring, Reason::Silenced]
            .map(|gate| verdict(&questions, &answers, gate))
    };
    let known = Confirmation { known: true, ..Confirmation::default() };
    assert_eq!(three(Some(Ok(known.clone()))), [Pass, Pass, Pass]);
    assert_eq!(three(Some(Ok(Confirmation::default()))), [Pass, Deny, Off]);
    let silenced = Confirmation { silenced_by: vec!["s".to_owned()], ..known.clone() };
    assert_eq!(three(Some(Ok(silenced))), [Pass, Pass, Deny]);
    let inhibited = Confirmation { inhibited_by: vec!["f".to_owned()], ..known };
    assert_eq!(three(Some(Ok(inhibited))), [Pass, Pass, Deny]);
    assert_eq!(three(Some(Err("refused".to_owned()))), [Deny, Off, Off]);
    assert_eq!(three(None), [Deny, Off, Off]);
    let nothing = Questions::default().judge(&Answers::default());
    assert!(nothing.iter().all(|report| report.verdict == Off), "{nothing:?}");
}

#[test]
fn a_precheck_that_was_not_answered_with_yes_denies() {
    let expect = Expect::parse("> 0").unwrap();
    let questions = Questions { precheck: Some(("up".to_owned(), expect)), ..Questions::default() };
    let ask =
        |precheck| verdict(&questions, &Answers { precheck, ..Answers::default() }, Reason::PrecheckFailed);
    assert_eq!(ask(Some((true, "holds".to_owned()))), GateVerdict::Pass);
    assert_eq!(ask(Some((false, "no_data".to_owned()))), GateVerdict::Deny);
    assert_eq!(ask(None), GateVerdict::Deny);
}
