"""What the pages share: state, words, the shell around every page, the model's service, browser components."""
