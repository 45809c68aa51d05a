"""`python -m lightning_sae.explain` is `lightning-sae explain`."""

from lightning_sae.program import command

main = command("explain")

if __name__ == "__main__":
    main()
