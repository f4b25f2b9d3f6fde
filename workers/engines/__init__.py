"""Engines that serve models, behind one interface."""
