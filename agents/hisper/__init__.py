"""HISPER and HASAC: heterogeneous agents that maximise one reward and the entropy of all.

Every agent has a policy of its own, of several sub-actions; the critics judge the joint action.
HISPER draws the sub-actions one after another, each given those before (``autoregressive``), and
learns one value per component of the reward (``hybrid_reward``). HASAC is the same learner without
the two. Actors are updated one after another in a random order, each against the new actions of
those before it, which is what makes the joint policy better at every step of soft policy iteration.

Source: HISPER is of "Joint DNN Model Deployment, Selection, and Configuration for Heterogeneous
Inference Services Toward Edge Intelligence", IEEE Transactions on Mobile Computing, 2025, eqs (23)
to (34), Algorithm 1; HASAC of J. Liu et al., "Maximum Entropy Heterogeneous-Agent Reinforcement
Learning", ICLR 2024; hybrid rewards of H. van Seijen et al., "Hybrid Reward Architecture for
Reinforcement Learning", NeurIPS 2017. Where the paper cannot be meant literally or is silent:

- (27), (31) add alpha times the entropy to each of the three values, which triples it:
  ``entropy_split``;
- the LSTM is fed "the distribution of the previous action", with which the sub-actions would be
  independent and (24) false: ``feed``;
- values are normalised per component, so that small ones are learned beside large ones, and the
  actors' loss is in units of the reward, so that the temperature is too;
- policies see what their agent observes, not the global state (Algorithm 1).

What the paper prescribes learns slowly; ``cell``, ``standardise``, ``critics`` and ``gradient``
have a faster choice each. The last changes what is ascended: the slope of a critic at the drawn
action says little of what another action is worth.

The learner is a class in layers; each has a file, which uses those before it alone: `state`, what a
run is made of; `sizes`, what is fixed, and its networks; `values`, how critics judge and learn;
`policies`, how actors do; `learner`, a run. All public names but the layers are here, too.
"""

from agents.hisper.learner import Hisper
from agents.hisper.state import HisperState, Hyperparameters, Learned, Transition

__all__ = ["Hisper", "HisperState", "Hyperparameters", "Learned", "Transition"]
