"""A training: the LightningModule, how it starts, stops and goes on."""
