"""Hits of a search, as people and programs read them; all from answers as data (`bindsearch.views.answer_data`)."""
