//! What the users write: fifteen prompts for each kind of work, as one writes them to an agent. None is taken from the
//! rules by which tasks are detected, and none was chosen by how it is detected.

/// Front end.
pub(crate) const UI: [&str; 15] = [
    "Fix the login button styling: on narrow screens its label wraps into two lines and the shadow is cut off.",
    "Make the settings page usable on a phone; its two columns should stack below 600 pixels.",
    "Add a hover state to the cards on the dashboard, a slight lift and a stronger border, nothing flashy.",
    "The modal for deleting a project closes when I click inside it. Only a click on the backdrop should close it.",
    "Our checkout form shows all its errors at the top. Show each one below its own field and keep what was typed.",
    "Please align the icons in the sidebar with their labels; at the moment they sit two pixels too low in Firefox.",
    "Give the table component sticky headers and zebra stripes, in light and in dark mode.",
    "Replace the spinner on the search page by skeleton rows so that the layout does not jump when results arrive.",
    "The CSS grid on the pricing page breaks with four plans. All four should fit on one row from 1200 pixels on.",
    "Add a fade-in animation to the toasts and let them leave after five seconds unless the pointer rests on them.",
    "In the browser the date picker opens behind the header. Bring it to the front without touching every z-index.",
    "Restyle the navigation bar after the attached mock-up: logo on the left, links centred, account menu on the right.",
    "Make all form elements reachable by keyboard and show a visible focus ring on each of them.",
    "Open the landing page with Playwright, click through the carousel and take a screenshot of each slide.",
    "The dropdown for countries is slow to scroll; put a filter box on top and only render the visible entries.",
];

/// Programming.
pub(crate) const CODING: [&str; 15] = [
    "Implement a function that merges overlapping time ranges and returns them sorted; it gets up to a million of them.",
    "Refactor the payment module so that the gateway is passed in instead of being a global, and keep its public methods.",
    "Write a Python class that reads the sensor's CSV export lazily and yields one typed record per line.",
    "Add pagination to the orders endpoint: a cursor in the query, at most 100 rows, ordered by creation time and id.",
    "Implement user authentication with signed session cookies: log in, log out, and expiry after thirty days.",
    "Port this TypeScript algorithm for diffing two trees from recursion to an explicit stack; deep trees overflow now.",
    "Write a token bucket in Rust with integer arithmetic that never lets through more than its capacity and its refill.",
    "Our job queue may run the same job twice after a crash. Implement leases with a heartbeat in the worker.",
    "Replace the hand-written SQL in the repository layer by prepared statements and make sure that all are closed.",
    "Add a retry with exponential backoff and full jitter to the HTTP client, only for requests that are safe to repeat.",
    "Extend the interval tree with a method that removes a node, and keep the tree balanced.",
    "Implement an LRU cache whose entries also expire by age; reading must not take the lock for writing.",
    "Convert the callbacks in the upload service to async functions, and pass cancellation down to the storage calls.",
    "Write the logic that splits an invoice among cost centres by weight without losing a cent to rounding.",
    "Change the parser so that it reports all syntax errors of a file with line and column, not only the first one.",
];

/// Texts about programs.
pub(crate) const DOCUMENTATION: [&str; 15] = [
    "Write a README for this project: what it does, how to install it, a first example, and where to ask for help.",
    "Document every option of the configuration file in a table with its default and the unit of its value.",
    "Write a getting started guide for people who have never used a message queue, with one worked example.",
    "Update the changelog for version 2.3 from these commit messages, grouped into added, changed and fixed.",
    "Add docstrings to the public functions of this module; say what they return and when they raise.",
    "Explain in the user guide how backups are restored, step by step, with what can go wrong at each step.",
    "Write a tutorial that shows how to build a plugin, from an empty folder to one that is published.",
    "Describe the data model on one page for new colleagues, and say which table is the source of truth for what.",
    "Turn these release notes into an upgrade guide: what breaks, whom it concerns and what has to be done.",
    "Write the API reference for the billing endpoints, with a request, an answer and the possible errors for each.",
    "Summarise the architecture decision records in a documentation page, one paragraph each, newest first.",
    "Write comments for the deployment files so that a reader knows why each setting is as it is.",
    "Proofread the installation guide and rewrite what is out of date since we moved to containers.",
    "Write a FAQ for the support team from this list of questions, with short answers that link to the docs.",
    "Draft the contributing guide: how to set up, how to run the checks, and how a change is reviewed.",
];
