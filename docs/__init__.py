"""The site: its settings (`conf`), how it is built (`build`) and how it is looked at (`look`)."""
