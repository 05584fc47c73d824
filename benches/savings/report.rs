//! The figures as Markdown, beside the guide's, and why they differ.

use std::fmt::Write as _;

use tollgate::llm::catalogue::Catalogue;
use tollgate::units::Cost;

use crate::day::{LOCAL_MODEL, Run};
use crate::figures::{Day, less, percent};
use crate::load::{Job, Work};
use crate::vendor::Vendor;

/// Where the load's sizes come from.
pub(crate) fn assumptions(catalogue: &Catalogue, requests: usize) -> String {
    let mut text = format!(
        "A day of {requests} requests, as in the guide: 50 % ui, 30 % coding, 20 % documentation. Every one is a \
         conversation of its own, without a prompt cache, and nobody tells tollgate its task. Prices of {}.\n\n\
         | work | requests in ten | tokens in | tokens out | at the guide's $3 and $15 |\n| --- | ---: | ---: | ---: | ---: |\n",
        catalogue.as_of()
    );
    for work in Work::ALL {
        let (input, output) = work.tokens();
        let then = (input * 3 + output * 15) as f64 / 1e6;
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {input} | {output} | ${then:.3} |",
            work.name(),
            work.tenths()
        );
    }
    text.push_str("\n1,000 requests at $0.018 are the guide's $18 a day.\n");
    text
}

/// All of one vendor's runs.
pub(crate) fn of_vendor(
    catalogue: &Catalogue,
    vendor: Vendor,
    load: &[Job],
    days: &[Day],
) -> String {
    let mut text = format!(
        "## {}: {} and {}\n\n",
        vendor.provider(),
        vendor.premium(),
        vendor.cheap()
    );
    let million = |model, input, output| {
        let price = vendor.price(catalogue, model, input, output);
        price.map_or_else(
            || "?".to_owned(),
            |price| Cost::from_attos(price.attos() * 1000).display(2),
        )
    };
    for model in [vendor.premium(), vendor.cheap()] {
        let _ = writeln!(
            text,
            "- {model}: ${} in, ${} out per million tokens",
            million(model, 1000, 0),
            million(model, 0, 1000)
        );
    }
    text.push_str(&table(days));
    if let Some(off) = find(days, Run::Off) {
        let priced: Option<Cost> = load
            .iter()
            .map(|job| vendor.price_of(catalogue, vendor.premium(), job.work))
            .sum();
        let verdict = match priced == Some(off.cost) {
            true => "to the last digit what tokens and prices make",
            false => "NOT what tokens and prices make",
        };
        let _ = writeln!(text, "\n- the cost of `off` is {verdict}");
    }
    text.push_str(&held_together(days));
    text.push_str(&served(days));
    text.push_str(&why(catalogue, vendor, load));
    text
}

fn find(days: &[Day], run: Run) -> Option<&Day> {
    days.iter().find(|day| day.run == run)
}

fn table(days: &[Day]) -> String {
    let mut text =
        "\n| routing | cost of the day | ui | coding | documentation | saved | the guide, of 1,000 requests |\n\
                    | --- | ---: | ---: | ---: | ---: | ---: | --- |\n"
            .to_owned();
    let off = find(days, Run::Off);
    for day in days {
        let saved = match (day.run, off) {
            (Run::Off, _) => "–".to_owned(),
            (Run::Shadow, _) => {
                let saving = day.savings.shadow.saving;
                format!("would be {:.1} %", percent(saving, day.savings.all.cost))
            }
            (_, Some(off)) => format!("{:.1} %", percent(less(off.cost, day.cost), off.cost)),
            (_, None) => "? (needs the run `off`)".to_owned(),
        };
        let guide = match day.run {
            Run::Off => "$18",
            Run::Shadow => "–",
            Run::On => "49 % ($9.12)",
            Run::Local => "60 %",
        };
        let works = day.by_work.map(|cost| format!("${}", cost.display(2)));
        let _ = writeln!(
            text,
            "| {} | ${} | {} | {saved} | {guide} |",
            day.run.name(),
            day.cost.display(4),
            works.join(" | ")
        );
    }
    text
}

/// Whether what was foretold, what is said and what was saved agree.
fn held_together(days: &[Day]) -> String {
    let mut text = String::new();
    let saved = match (find(days, Run::Off), find(days, Run::On)) {
        (Some(off), Some(on)) => Some((less(off.cost, on.cost), on)),
        _ => None,
    };
    if let Some((saved, on)) = saved {
        let _ = writeln!(
            text,
            "- saved in fact (`off` less `on`): ${}; what the ledger of `on` says by itself: ${}, {} requests unknown",
            saved.display(4),
            on.savings.on.saving.display(4),
            on.savings.on.unknown_saving_requests
        );
    }
    if let (Some((saved, _)), Some(shadow)) = (saved, find(days, Run::Shadow)) {
        let foretold = shadow.savings.shadow.saving;
        let beside = match saved {
            Cost::ZERO => "and `on` saved nothing".to_owned(),
            saved => format!(
                "{:+.1} % beside what `on` saved",
                percent(less(foretold, saved), saved)
            ),
        };
        let _ = writeln!(
            text,
            "- `shadow` said that it would save ${}, {beside}",
            foretold.display(4)
        );
    }
    text
}

/// What was taken for what, and what served it.
fn served(days: &[Day]) -> String {
    let Some(day) = [Run::Local, Run::On, Run::Shadow, Run::Off]
        .into_iter()
        .find_map(|run| find(days, run))
    else {
        return String::new();
    };
    let mut text = format!(
        "\nWhat the prompts were taken for, and what served them (`{}`):\n\n\
         | work | taken for | served by | requests |\n| --- | --- | --- | ---: |\n",
        day.run.name()
    );
    for served in &day.served {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            served.work, served.task, served.model, served.requests
        );
    }
    text
}

/// Why the shares are not the guide's.
fn why(catalogue: &Catalogue, vendor: Vendor, load: &[Job]) -> String {
    let cost_on = |model: &str, wanted: &dyn Fn(Work) -> bool| -> Option<Cost> {
        let jobs = load.iter().filter(|job| wanted(job.work));
        jobs.map(|job| vendor.price_of(catalogue, model, job.work))
            .sum()
    };
    let all = |_: Work| true;
    let delegated = |work: Work| work != Work::Coding;
    let costs = (
        cost_on(vendor.premium(), &all),
        cost_on(vendor.premium(), &delegated),
        cost_on(vendor.cheap(), &delegated),
    );
    let (Some(premium), Some(before), Some(after)) = costs else {
        return "\nThe catalogue does not price both models.\n".to_owned();
    };
    let share = percent(before, premium);
    let cut = percent(less(before, after), before);
    let coding = less(premium, before);
    format!(
        "\nWhy not 49 %: ui and documentation are {share:.0} % of the cost, as in the guide, but a cheap model is {cut:.0} % \
         cheaper now, not 80 %. If every prompt is taken for what it is, {share:.0} % × {cut:.0} % = {:.1} % are saved. At 80 % \
         it would be {:.1} %; the guide has 49 % because it books ui at $3 of $9, which is two thirds off.\n\
         Why not 60 %: all of coding on a free local model ({LOCAL_MODEL}) saves its {:.0} % of the cost too, {:.1} % in all. By \
         the guide's own sums that would be 79 % ($9.12 less the $5.40 for coding); its 60 % is $7.20 a day, so it leaves \
         about two thirds of coding on the premium model.\n",
        share * cut / 100.0,
        share * 0.8,
        percent(coding, premium),
        percent(less(premium, after), premium),
    )
}
